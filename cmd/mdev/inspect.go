package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/fatih/color"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/replay"
)

type inspectCmd struct {
	machineFlags

	Seq  *int `placeholder:"N" help:"Show only the record with this seq."`
	JSON bool `help:"Print JSON, one object a line."`

	Path string `arg:"" help:"A recording (.jsonl, plain, gzip or zstd), or a folder of them."`
}

// Help is the long help.
func (*inspectCmd) Help() string {
	return `Left is what the guest wrote: the address of each CCW, its command code, flags,
count and data address, the name of the command on this kind of device and the
names of the flags. Right is the same CCW as hardware got it, at its host address.
Below it stand the words of its data, direct or by IDAW or MIDAW: the guest address
and its length, and the host address that was pinned for it. What is wrong with a
CCW, and where execution ended, is marked.

A program without prefetch (P=0) is translated CCW by CCW while it executes; what
is shown is what stood at each place last.

Examples:
  mdev inspect testdata/ccw/dasd.jsonl.gz --seq 50
  mdev inspect testdata/ccw/vec0.jsonl.gz --seq 54 --device scripted
  mdev inspect testdata/ccw/fba.jsonl.gz --json`
}

// Run inspects.
func (c *inspectCmd) Run(a *app) error {
	opt, err := c.options()
	if err != nil {
		return err
	}
	opt.Only = c.Seq
	all, err := replay.Load([]string{c.Path}, opt, nil)
	if err != nil {
		return badInput(err)
	}
	v := &view{w: a.stdout}
	v.colors(colors(a.stdout))
	for _, s := range all {
		var werr error
		err := s.Inspect(a.ctx, func(x *replay.Inspection) {
			switch {
			case werr != nil:
			case c.JSON:
				werr = writeLine(a.stdout, inspectionJSON(x))
			default:
				werr = v.show(x)
			}
		})
		if err == nil {
			err = werr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// view prints inspections for people, at most 100 columns wide.
type view struct {
	w                      io.Writer
	title, dim, bad, guest func(string) string
	b                      strings.Builder
}

func (v *view) colors(on bool) {
	v.title = paint(on, color.Bold)
	v.dim = paint(on, color.Faint)
	v.bad = paint(on, color.FgRed, color.Bold)
	v.guest = paint(on, color.FgCyan)
}

func (v *view) printf(format string, args ...any) { fmt.Fprintf(&v.b, format, args...) }

// text prints a sentence after label, wrapped at the width of the listing.
func (v *view) text(label, s string, style func(string) string) {
	for i, l := range strings.Split(text.WrapSoft(s, width-len(label)-2), "\n") {
		if i > 0 {
			label = strings.Repeat(" ", len(label))
		}
		v.printf("  %s%s\n", label, style(strings.TrimRight(l, " ")))
	}
}

// width is the number of columns of the listing.
const width = 100

// show prints one record.
func (v *view) show(x *replay.Inspection) error {
	v.b.Reset()
	r, rec, t := x.Result, x.Record, x.Translation
	v.printf("%s", v.title(fmt.Sprintf("%s %d", r.Scenario, r.Seq)))
	v.printf("  device %s, %v  %s", r.Device, x.Kind, rec.Op)
	if r.Name != "" {
		v.printf("  %q", r.Name)
	}
	v.printf("\n  %d CCWs executed, %d IDAWs, %d pages pinned\n", r.CCWs, r.IDAWs, r.Pins)
	v.text("guest ORB  ", t.ORB.String(), asIs)
	v.text("host ORB   ", t.Host.String(), asIs)
	f1 := t.ORB.Format1()
	v.printf("%s\n", v.dim(fmt.Sprintf("%3s  %-8s %-19s %-21s %-14s| %-8s %s",
		"#", "guest", "cc fl coun address", "command", "flags", "host", "cc fl coun address")))
	if len(t.Elements) == 0 {
		v.printf("     nothing was fetched\n")
	}
	failed := x.IRB.SCSW.CCWAddr()
	chain := 0
	for i := range t.Elements {
		e := &t.Elements[i]
		if e.Chain != chain {
			v.printf("%s\n", v.dim("     ----"))
			chain = e.Chain
		}
		v.element(x, e, f1)
		if failed == e.Addr+cio.CCWSize && unusual(&x.IRB.SCSW) {
			v.printf("     %s\n", v.bad("^ execution ended here: "+status(&x.IRB.SCSW)))
		}
	}
	v.text("SCSW  ", x.IRB.SCSW.String(), asIs)
	if s := x.IRB.Sense(); s != nil {
		v.text("sense ", fmt.Sprintf("% x", s), asIs)
	}
	if r.Err != nil {
		v.text("", r.Err.Error(), v.bad)
	}
	v.verdict(r)
	v.printf("\n")
	_, err := io.WriteString(v.w, v.b.String())
	return err
}

func asIs(s string) string { return s }

// unusual reports whether s shows anything but a normal end.
func unusual(s *cio.SCSW) bool {
	return s.SC()&cio.AlertStatus != 0 || s.Subchannel() != 0 || s.Device()&^cio.StatusModifier != cio.Ended
}

func status(s *cio.SCSW) string {
	if s.AC()&cio.Suspended != 0 {
		return "suspended before this CCW"
	}
	return fmt.Sprintf("device %v, subchannel %v, count %d left", s.Device(), s.Subchannel(), s.Count())
}

// element prints one CCW and the words of its data.
func (v *view) element(x *replay.Inspection, e *ccw.Element, f1 bool) {
	name := replay.CommandName(x.Kind, e.CCW.Command, f1)
	flags := e.CCW.Flags.String()
	if e.CCW.Flags == 0 {
		flags = ""
	}
	host := ""
	if e.Host != 0 {
		host = fmt.Sprintf("%08x", e.Host)
		if e.HostAs != (cio.CCW{}) {
			host += " " + ccwText(e.HostAs)
		}
	}
	if e.Unreached {
		host += " not reached"
	}
	v.printf("%3d  %s %s %-21s %-14s| %s\n", e.Index, v.guest(fmt.Sprintf("%08x", e.Addr)), ccwText(e.CCW),
		cut(name, 21), cut(flags, 14), host)
	const maxWords = 40
	for i, w := range e.Words {
		if i == maxWords {
			v.printf("       ... %d words more\n", len(e.Words)-maxWords)
			break
		}
		v.word(e, i, w)
	}
	if e.Err != nil {
		v.text("     ", e.Err.Error(), v.bad)
	}
}

func (v *view) word(e *ccw.Element, i int, w ccw.Word) {
	kind := "direct"
	switch {
	case e.CCW.Flags&cio.Modified != 0:
		kind = fmt.Sprintf("MIDAW %d", i)
	case e.CCW.Flags&cio.Indirect != 0:
		kind = fmt.Sprintf("IDAW %d", i)
	}
	to := "not pinned"
	switch {
	case w.Err:
		to = v.bad("check")
	case w.Host != 0:
		to = fmt.Sprintf("hpa %x", uint64(w.Host))
	}
	note := ""
	if w.Flags != 0 {
		note = " " + w.Flags.String()
	}
	v.printf("       %-9s %12x +%-6d%-36s| %s\n", kind, uint64(w.Guest), uint64(w.Len), note, to)
}

func ccwText(c cio.CCW) string {
	return fmt.Sprintf("%02x %02x %04x %08x", uint8(c.Command), uint8(c.Flags), c.Count, c.Addr)
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n-1] + "~"
	}
	return s
}

func (v *view) verdict(r *replay.Result) {
	switch r.Outcome {
	case replay.Pass:
		v.printf("  as recorded\n")
	case replay.Unchecked:
		v.printf("  the record holds no expectation\n")
	default:
		for _, x := range r.Rules {
			v.text("expected difference: ", x.Name+": "+x.Reason, asIs)
		}
		for i := range r.Diffs {
			d := &r.Diffs[i]
			where := d.Location()
			if d.Text != "" {
				where += ": " + d.Text
			}
			v.text("differs: ", where, v.bad)
			v.printf("%s", d.HexDiff())
		}
	}
}

// The JSON of inspect: one object a record.
type (
	jsonInspection struct {
		jsonRecord
		Op      string        `json:"op"`
		Kind    string        `json:"kind"`
		ORB     string        `json:"orb"`
		HostORB string        `json:"host_orb"`
		Whole   bool          `json:"whole"`
		IRB     string        `json:"irb"`
		CCWs    []jsonElement `json:"ccws"`
	}
	jsonElement struct {
		Index     int        `json:"index"`
		Chain     int        `json:"chain"`
		At        string     `json:"at"`
		CCW       jsonCCW    `json:"ccw"`
		Name      string     `json:"command"`
		HostAt    string     `json:"host_at,omitempty"`
		Host      *jsonCCW   `json:"host,omitempty"`
		Words     []jsonWord `json:"words,omitempty"`
		Unreached bool       `json:"unreached,omitempty"`
		Ended     bool       `json:"ended,omitempty"`
		Error     string     `json:"error,omitempty"`
	}
	jsonCCW struct {
		Cmd   string `json:"cmd"`
		Flags string `json:"flags"`
		Count uint16 `json:"count"`
		Addr  string `json:"addr"`
	}
	jsonWord struct {
		GPA   string `json:"gpa"`
		Len   uint64 `json:"len"`
		HPA   string `json:"hpa,omitempty"`
		Flags string `json:"flags,omitempty"`
		Check bool   `json:"check,omitempty"`
	}
)

func ccwJSON(c cio.CCW) jsonCCW {
	return jsonCCW{fmt.Sprintf("%02x", uint8(c.Command)), fmt.Sprintf("%02x", uint8(c.Flags)), c.Count, fmt.Sprintf("%x", c.Addr)}
}

func inspectionJSON(x *replay.Inspection) jsonInspection {
	t := x.Translation
	irb := x.IRB.Encode()
	j := jsonInspection{
		jsonRecord: recordJSON(x.Result), Op: string(x.Record.Op), Kind: x.Kind.String(), ORB: hex.EncodeToString(t.ORB.Raw[:]),
		HostORB: hex.EncodeToString(t.Host.Raw[:]), Whole: t.Whole, IRB: hex.EncodeToString(irb[:]), CCWs: []jsonElement{},
	}
	for i := range t.Elements {
		e := &t.Elements[i]
		el := jsonElement{
			Index: e.Index, Chain: e.Chain, At: fmt.Sprintf("%x", e.Addr), CCW: ccwJSON(e.CCW), Unreached: e.Unreached,
			Name: replay.CommandName(x.Kind, e.CCW.Command, t.ORB.Format1()), Ended: x.IRB.SCSW.CCWAddr() == e.Addr+cio.CCWSize,
		}
		if e.Host != 0 {
			el.HostAt = fmt.Sprintf("%x", e.Host)
		}
		if e.HostAs != (cio.CCW{}) {
			h := ccwJSON(e.HostAs)
			el.Host = &h
		}
		if e.Err != nil {
			el.Error = e.Err.Error()
		}
		for _, w := range e.Words {
			k := jsonWord{GPA: fmt.Sprintf("%x", uint64(w.Guest)), Len: uint64(w.Len), Check: w.Err}
			if w.Host != 0 {
				k.HPA = fmt.Sprintf("%x", uint64(w.Host))
			}
			if w.Flags != 0 {
				k.Flags = w.Flags.String()
			}
			el.Words = append(el.Words, k)
		}
		j.CCWs = append(j.CCWs, el)
	}
	return j
}
