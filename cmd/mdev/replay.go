package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fatih/color"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/schollz/progressbar/v3"

	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/internal/replay"
)

type replayCmd struct {
	machineFlags

	Seq      *int              `placeholder:"N" help:"Report only the record with this seq. On a device model the records before it run too, silently."`
	FailFast bool              `help:"Stop at the first difference."`
	JSON     bool              `help:"Print the result as JSON."`
	Via      string            `enum:"direct,vfio-user,vfio-user-messages" default:"direct" help:"How the guest reaches its devices. direct calls the mediator. vfio-user serves them over a socket, with the regions of vfio-ccw, and drives them as a VMM that shares the guest's memory; with vfio-user-messages all memory is read and written by messages. (${enum}; default ${default})"`
	Socket   map[string]string `placeholder:"DEVNO=PATH" help:"Drive the device that mdev serve serves at this socket, in its initial state, in place of a model."`
	Record   string            `placeholder:"FILE" help:"Append the programs to this recording, as the devices that they are replayed on see them."`
	Diffs    int               `default:"20" placeholder:"N" help:"Print the differences of at most N records; 0 prints all."`

	Path []string `arg:"" name:"path" help:"Recordings (.jsonl, plain, gzip or zstd), or folders of them. *.events.jsonl* are instruction logs and are left out."`
}

// Help is the long help.
func (*replayCmd) Help() string {
	return `Every record is one channel program that a guest submitted. It is fetched from a
guest memory that holds what the record says and poison elsewhere, translated,
pinned and executed on an emulated channel subsystem that can reach only what was
pinned. Then the SCSW, the extended status, the sense bytes, the IRB and every byte
of guest memory are compared: only bytes that the record lists as stored may differ
from the start image.

A difference that is a known deviation of the recorded machine from the architecture
is counted as expected, with the rule and its reason. A file
expected-differences.json beside a recording can list further single records.

Exit codes: 0 all equal or expected, 1 differences, 2 bad input, 3 mdev failed.

Examples:
  mdev replay testdata/ccw
  mdev replay --device emulated --image 0120=disk.ckd.gz dasd.jsonl.gz
  mdev replay --device scripted --layout scattered --seed 7 testdata/ccw --json
  mdev replay testdata/ccw/dasd.jsonl.gz --seq 50
  mdev replay --via vfio-user testdata/ccw/fba.jsonl.gz
  mdev serve --type ccw-fba --attr image=disk.fba --socket-path s --record live.jsonl &
  mdev replay --socket 0140=s testdata/ccw/fba.jsonl.gz`
}

// Run replays.
func (c *replayCmd) Run(a *app) (err error) {
	opt, err := c.options()
	if err != nil {
		return err
	}
	opt.Only, opt.FailFast = c.Seq, c.FailFast
	opt.Via = map[string]replay.Via{"vfio-user": replay.Shared, "vfio-user-messages": replay.Messages}[c.Via]
	if opt.Sockets, err = byDevice("--socket", c.Socket); err != nil {
		return err
	}
	all, err := replay.Load(c.Path, opt, nil)
	if err != nil {
		return badInput(err)
	}
	warnCut(a.stderr, all)
	if c.Record != "" {
		rec, err := recording.NewRecorder(c.Record, nil)
		if err != nil {
			return usagef("--record: %w", err)
		}
		defer func() { err = errors.Join(err, rec.Close()) }()
		opt.Record = rec
	}
	out := &replayOutput{app: a, cmd: c}
	bar := newBar(a.stderr, all, c.Seq)
	var sums []*replay.Summary
	for _, s := range all {
		bar.name(s.Name)
		sum, err := s.Run(a.ctx, func(r *replay.Result) {
			bar.add()
			if r.Outcome == replay.Fail {
				bar.hide() // the line is about to be printed over
			}
			if r.Outcome != replay.Pass {
				out.result(r)
			}
		})
		if err != nil {
			bar.hide()
			return err
		}
		sums = append(sums, sum)
		if c.FailFast && sum.Outcomes[replay.Fail] > 0 {
			break
		}
	}
	bar.hide()
	return out.finish(sums)
}

// warnCut says which recordings end in the middle of a line.
func warnCut(w io.Writer, all []*replay.Scenario) {
	file := ""
	for _, s := range all {
		if s.Cut != nil && s.File != file {
			file = s.File
			fmt.Fprintf(w, "mdev: %s; its recorder was killed, what stands before is replayed\n", line(s.Cut))
		}
	}
}

// badInput marks errors of loading that name no file.
func badInput(err error) error { return usage{err} }

// bar is a progress bar, or nothing where nobody would see it move.
type bar struct{ p *progressbar.ProgressBar }

func newBar(w io.Writer, all []*replay.Scenario, only *int) bar {
	if !isTerminal(w) || only != nil {
		return bar{}
	}
	n := 0
	for _, s := range all {
		n += s.Records()
	}
	return bar{progressbar.NewOptions(n, progressbar.OptionSetWriter(w), progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(40), progressbar.OptionThrottle(50*time.Millisecond), progressbar.OptionClearOnFinish())}
}

func (b bar) name(s string) {
	if b.p != nil {
		b.p.Describe(s)
	}
}

func (b bar) add() {
	if b.p != nil {
		_ = b.p.Add(1) // it can only fail to draw
	}
}

func (b bar) hide() {
	if b.p != nil {
		_ = b.p.Clear()
	}
}

// replayOutput prints results as they come and the tables at the end.
type replayOutput struct {
	*app
	cmd      *replayCmd
	records  []jsonRecord
	expected map[[2]string][]string // rule and reason -> records
	shown    int
	hidden   int
}

// result takes a result that is not a plain pass.
func (o *replayOutput) result(r *replay.Result) {
	if o.cmd.JSON {
		o.records = append(o.records, recordJSON(r))
		return
	}
	switch r.Outcome {
	case replay.Expected:
		if o.expected == nil {
			o.expected = make(map[[2]string][]string)
		}
		for _, x := range r.Rules {
			key := [2]string{x.Name, x.Reason}
			o.expected[key] = append(o.expected[key], fmt.Sprintf("%s %d", r.Scenario, r.Seq))
		}
	case replay.Fail:
		if o.cmd.Diffs > 0 && o.shown >= o.cmd.Diffs {
			o.hidden++
			return
		}
		o.shown++
		printFailure(o.stdout, r, colors(o.stdout))
	}
}

func paint(on bool, attr ...color.Attribute) func(string) string {
	c := color.New(attr...)
	if on {
		c.EnableColor()
	} else {
		c.DisableColor()
	}
	return func(s string) string { return c.Sprint(s) }
}

// printFailure prints a record that differs: where, what, and bytes.
func printFailure(w io.Writer, r *replay.Result, col bool) {
	red := paint(col, color.FgRed, color.Bold)
	how := "scripted"
	if r.Emulated {
		how = "emulated"
	}
	fmt.Fprintf(w, "%s %s %d  device %s (%s)", red("DIFFERENT"), r.Scenario, r.Seq, r.Device, how)
	if r.Name != "" {
		fmt.Fprintf(w, "  %q", r.Name)
	}
	fmt.Fprintf(w, "  %s:%d\n", r.File, r.Line)
	if r.Note != "" {
		fmt.Fprintf(w, "  note: %s\n", r.Note)
	}
	if r.Err != nil {
		fmt.Fprintf(w, "  the mediator says: %v\n", r.Err)
	}
	for _, x := range r.Rules {
		fmt.Fprintf(w, "  beyond the expected difference %s:\n", x.Name)
	}
	for i := range r.Diffs {
		d := &r.Diffs[i]
		fmt.Fprintf(w, "  %s", d.Location())
		if d.Text != "" {
			fmt.Fprintf(w, ": %s", d.Text)
		}
		fmt.Fprintln(w)
		fmt.Fprint(w, d.HexDiff())
	}
}

// finish prints the tables and returns the exit code.
func (o *replayOutput) finish(sums []*replay.Summary) error {
	var code error
	for _, s := range sums {
		if s.Outcomes[replay.Fail] > 0 {
			code = exit(exitDifferent)
		}
	}
	if o.cmd.JSON {
		if err := o.json(sums); err != nil {
			return err
		}
		return code
	}
	if o.hidden > 0 {
		fmt.Fprintf(o.stdout, "%d more records differ; --diffs 0 prints all\n", o.hidden)
	}
	if o.shown > 0 {
		fmt.Fprintln(o.stdout)
	}
	printTable(o.stdout, sums)
	printExpected(o.stdout, o.expected)
	printVerdict(o.stdout, sums)
	return code
}

func printTable(w io.Writer, sums []*replay.Summary) {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options.DrawBorder, style.Options.SeparateColumns, style.Options.SeparateFooter = false, false, true
	style.Format.Header, style.Format.Footer = text.FormatDefault, text.FormatDefault
	t.SetStyle(style)
	t.AppendHeader(table.Row{"scenario", "devices", "memory", "programs", "CCWs", "IDAWs", "pins", "CCW/s", "pass", "fail", "expected", "unchecked"})
	var total replay.Summary
	for _, s := range sums {
		t.AppendRow(table.Row{
			s.Scenario, devices(s), formatSize(s.Memory), s.Programs, s.CCWs, s.IDAWs, s.Pins, rate(s.CCWs, s.RunNS),
			s.Outcomes[replay.Pass], s.Outcomes[replay.Fail], s.Outcomes[replay.Expected], s.Outcomes[replay.Unchecked],
		})
		total.Programs += s.Programs
		total.CCWs += s.CCWs
		total.IDAWs += s.IDAWs
		total.Pins += s.Pins
		total.RunNS += s.RunNS
		for i, n := range s.Outcomes {
			total.Outcomes[i] += n
		}
	}
	t.AppendFooter(table.Row{
		"all", "", "", total.Programs, total.CCWs, total.IDAWs, total.Pins, rate(total.CCWs, total.RunNS),
		total.Outcomes[replay.Pass], total.Outcomes[replay.Fail], total.Outcomes[replay.Expected], total.Outcomes[replay.Unchecked],
	})
	var right []table.ColumnConfig
	for i := 3; i <= 12; i++ {
		right = append(right, table.ColumnConfig{Number: i, Align: text.AlignRight, AlignHeader: text.AlignRight, AlignFooter: text.AlignRight})
	}
	t.SetColumnConfigs(right)
	fmt.Fprintln(w, t.Render())
}

// devices says on what a scenario ran: "emulated 2", "scripted 7", or both.
func devices(s *replay.Summary) string {
	n := map[string]int{}
	for _, how := range s.Devices {
		kind, _, _ := strings.Cut(how, " ")
		n[kind]++
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%d %s", n[k], k))
	}
	return strings.Join(parts, ", ")
}

// rate is CCWs per second of Start..Test.
func rate(ccws int, ns int64) string {
	if ns == 0 || ccws == 0 {
		return "-"
	}
	r := float64(ccws) / float64(ns) * 1e9
	if r >= 1e6 {
		return fmt.Sprintf("%.2f M", r/1e6)
	}
	return fmt.Sprintf("%.0f k", r/1e3)
}

// printExpected lists the expected differences by rule: how many records, why,
// and which.
func printExpected(w io.Writer, rules map[[2]string][]string) {
	if len(rules) == 0 {
		return
	}
	fmt.Fprintln(w, "\nexpected differences:")
	keys := slices.SortedFunc(maps.Keys(rules), func(a, b [2]string) int { return strings.Compare(a[0]+a[1], b[0]+b[1]) })
	for _, k := range keys {
		list := rules[k]
		fmt.Fprintf(w, "  %4d  %s: %s\n", len(list), k[0], k[1])
		more := ""
		if len(list) > 8 {
			list, more = list[:8], ", ..."
		}
		fmt.Fprintf(w, "        %s%s\n", strings.Join(list, ", "), more)
	}
}

func printVerdict(w io.Writer, sums []*replay.Summary) {
	var n [4]int
	programs, unchecked := 0, []string(nil)
	for _, s := range sums {
		programs += s.Programs
		for i, k := range s.Outcomes {
			n[i] += k
		}
		if k := s.Outcomes[replay.Unchecked]; k > 0 {
			unchecked = append(unchecked, fmt.Sprintf("%s (%d)", s.File, k))
		}
	}
	if len(unchecked) > 0 {
		fmt.Fprintf(w, "\nreplayed, but not checked, for lack of an expectation: %s\n", strings.Join(unchecked, ", "))
	}
	fmt.Fprintf(w, "\n%d programs: %d equal, %d expected differences, %d different, %d unchecked\n", programs,
		n[replay.Pass], n[replay.Expected], n[replay.Fail], n[replay.Unchecked])
	fmt.Fprintln(w, "CCW/s counts the time from Start to Test: fetch, translate, pin, execute, move data, status back.")
}

// The JSON of replay. Byte strings are hex, addresses are hex without prefix.
type (
	jsonReplay struct {
		Scenarios []jsonScenario `json:"scenarios"`
		// Records are the records that did not simply pass.
		Records []jsonRecord `json:"records"`
		Equal   bool         `json:"equal"`
	}
	jsonScenario struct {
		Scenario  string            `json:"scenario"`
		File      string            `json:"file"`
		Memory    uint64            `json:"memory"`
		Devices   map[string]string `json:"devices"`
		Programs  int               `json:"programs"`
		CCWs      int               `json:"ccws"`
		IDAWs     int               `json:"idaws"`
		Pins      int               `json:"pins"`
		RunNS     int64             `json:"run_ns"`
		AllNS     int64             `json:"all_ns"`
		CCWRate   float64           `json:"ccws_per_second"`
		Pass      int               `json:"pass"`
		Fail      int               `json:"fail"`
		Expected  int               `json:"expected"`
		Unchecked int               `json:"unchecked"`
		Rules     map[string]int    `json:"rules,omitempty"`
	}
	jsonRecord struct {
		File     string     `json:"file"`
		Line     int        `json:"line"`
		Scenario string     `json:"scenario"`
		Seq      int        `json:"seq"`
		Name     string     `json:"name,omitempty"`
		Device   string     `json:"device"`
		Emulated bool       `json:"emulated"`
		Outcome  string     `json:"outcome"`
		CCWs     int        `json:"executed"`
		IDAWs    int        `json:"idaws"`
		Pins     int        `json:"pins"`
		Rules    []jsonRule `json:"rules,omitempty"`
		Note     string     `json:"note,omitempty"`
		Error    string     `json:"error,omitempty"`
		Diffs    []jsonDiff `json:"differences,omitempty"`
	}
	jsonRule struct {
		Name   string `json:"name"`
		Reason string `json:"reason"`
	}
	jsonDiff struct {
		Element string `json:"element"`
		GPA     string `json:"gpa,omitempty"`
		Want    string `json:"expected"`
		Got     string `json:"got"`
		Text    string `json:"text,omitempty"`
	}
)

func recordJSON(r *replay.Result) jsonRecord {
	j := jsonRecord{
		File: r.File, Line: r.Line, Scenario: r.Scenario, Seq: r.Seq, Name: r.Name, Device: r.Device, Emulated: r.Emulated,
		Outcome: r.Outcome.String(), Note: r.Note, CCWs: r.CCWs, IDAWs: r.IDAWs, Pins: r.Pins,
	}
	for _, x := range r.Rules {
		j.Rules = append(j.Rules, jsonRule{x.Name, x.Reason})
	}
	if r.Err != nil {
		j.Error = r.Err.Error()
	}
	for _, d := range r.Diffs {
		x := jsonDiff{Element: d.Element, Want: hex.EncodeToString(d.Want), Got: hex.EncodeToString(d.Got), Text: d.Text}
		if d.Element == "memory" {
			x.GPA = fmt.Sprintf("%x", uint64(d.GPA))
		}
		j.Diffs = append(j.Diffs, x)
	}
	return j
}

func (o *replayOutput) json(sums []*replay.Summary) error {
	out := jsonReplay{Records: o.records, Equal: true}
	if out.Records == nil {
		out.Records = []jsonRecord{}
	}
	for _, s := range sums {
		j := jsonScenario{
			Scenario: s.Scenario, File: s.File, Memory: uint64(s.Memory), Devices: s.Devices, Programs: s.Programs,
			CCWs: s.CCWs, IDAWs: s.IDAWs, Pins: s.Pins, RunNS: s.RunNS, AllNS: s.AllNS, Rules: s.Rules,
			Pass: s.Outcomes[replay.Pass], Fail: s.Outcomes[replay.Fail], Expected: s.Outcomes[replay.Expected], Unchecked: s.Outcomes[replay.Unchecked],
		}
		if s.RunNS > 0 {
			j.CCWRate = float64(s.CCWs) / float64(s.RunNS) * 1e9
		}
		out.Scenarios = append(out.Scenarios, j)
		out.Equal = out.Equal && j.Fail == 0
	}
	return writeJSON(o.stdout, out)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// writeLine writes v as one line of JSON.
func writeLine(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
