package replay

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/translate/addr"
)

// Choice says on what a scenario's devices are replayed.
type Choice uint8

// The choices.
const (
	// Auto takes a model where there is one and, where it needs an initial
	// image, that is found; the recorded device side elsewhere.
	Auto Choice = iota
	// Scripted plays the recorded device side.
	Scripted
	// Emulated takes models and refuses recordings without one.
	Emulated
)

// Options say how recordings are replayed. The zero value is usable.
type Options struct {
	Device Choice
	Layout iommu.Layout
	Seed   uint64
	// Memory is the size of the guest in bytes; 0 takes MemorySize of each
	// scenario.
	Memory addr.Len
	// Poison fills memory that the record does not name.
	Poison byte
	// Images names initial images by device number (four hex digits).
	Images map[string]string
	// After says from the state of which scenario another starts, in
	// addition to those known.
	After map[string]string
	// Only, if not nil, is the only seq to report. On models the programs
	// before it run too.
	Only     *int
	FailFast bool
	// Via is how the guest reaches its devices.
	Via Via
	// Sockets are the devices that are not replayed on a model but on what is
	// served, in the device's initial state, at a socket: by device number.
	Sockets map[string]string
	// Record, if not nil, records the programs anew, as the devices on which
	// they are replayed see them.
	Record mdev.Recorder
}

// Via says how a guest reaches its devices.
type Via uint8

// The ways.
const (
	// Direct is by I/O instructions, to mediators in this process.
	Direct Via = iota
	// Shared is over vfio-user, to devices that are served over a socket with
	// the regions of vfio-ccw. They share the guest's memory.
	Shared
	// Messages is the same, but the memory is reached by messages.
	Messages
)

// startsAfter are the scenarios that start from the state another one left
// (recording-ccw.md, "Scenarios").
var startsAfter = map[string]string{"dasdipl": "zipl"}

// Scenario is the records of one scenario of one file, checked and ready to
// run.
type Scenario struct {
	Name   string
	File   string
	Memory addr.Len
	// Cut says where a live recording ends in the middle of a line; nil where
	// it does not.
	Cut error

	recs  []*recording.Record
	lines []int
	opt   *Options
	known map[int]Known // the operator's list, by seq

	// from is the scenario whose final state this one starts from, or nil.
	from *Scenario
	// models are the devices, by key, in their present state; made by reset.
	models map[string]*model
	// images are the initial images that were read, by path. Models copy
	// what they change.
	images map[string][]byte
	// hook, set by tests, runs between a program and its comparison.
	hook func(m *machine, seq int)
	// observe, set by tests, sees each program as its device submitted it.
	observe func(seq int, key string, x *ccw.Submission)
}

// Records is the number of records.
func (s *Scenario) Records() int { return len(s.recs) }

// Record is record i and the line of the file it stands on.
func (s *Scenario) Record(i int) (*recording.Record, int) { return s.recs[i], s.lines[i] }

// Kind is the kind of the device of a record.
func (s *Scenario) Kind(rec *recording.Record) Kind { return KindOf(&rec.Device, s.recs) }

// Load reads all recordings that paths name and prepares their scenarios. An
// error is bad input, of type *recording.Error where a file is at fault; then
// nothing has run. seen, if not nil, is told of each file when it has been
// read.
func Load(paths []string, opt *Options, seen func(file string)) ([]*Scenario, error) {
	files, err := recording.Find(paths...)
	if err != nil {
		return nil, err
	}
	var all []*Scenario
	for _, f := range files {
		part, err := LoadFile(f, opt)
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
		if seen != nil {
			seen(f)
		}
	}
	if err := chain(all, opt); err != nil {
		return nil, err
	}
	if opt.Only != nil {
		all = slices.DeleteFunc(all, func(s *Scenario) bool { return s.index(*opt.Only) < 0 })
		if len(all) == 0 {
			return nil, fmt.Errorf("no record with seq %d in %s", *opt.Only, strings.Join(paths, ", "))
		}
	}
	for _, s := range all {
		// Images are opened now, so that a bad one is found before
		// anything runs.
		if err := s.reset(); err != nil {
			return nil, err
		}
	}
	// A scenario that another one starts from runs right before it.
	return all, nil
}

// LoadFile reads one recording. One that a recorder was killed over, so that its
// last line is unfinished, is taken up to there; its scenarios say so.
func LoadFile(file string, opt *Options) ([]*Scenario, error) {
	recs, lines, err := recording.ReadFile(file, nil)
	var cut error
	if n := len(recs); errors.Is(err, recording.ErrUnfinished) && n > 0 && recs[n-1].Source == recording.LiveSource {
		cut, err = err, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := group(file, recs, lines, opt)
	for _, s := range all {
		s.Cut = cut
	}
	return all, err
}

// group makes scenarios of the records of a file.
func group(file string, recs []*recording.Record, lines []int, opt *Options) ([]*Scenario, error) {
	var all []*Scenario
	byName := make(map[string]*Scenario)
	for i, rec := range recs {
		s := byName[rec.Scenario]
		if s == nil {
			s = &Scenario{Name: rec.Scenario, File: file, opt: opt, images: make(map[string][]byte)}
			byName[rec.Scenario] = s
			all = append(all, s)
		}
		s.recs, s.lines = append(s.recs, rec), append(s.lines, lines[i])
	}
	list, err := loadKnown(filepath.Join(filepath.Dir(file), KnownFile))
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		s.known = list[s.Name]
		if err := s.size(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// size settles the memory of the guest and checks that every record fits it.
func (s *Scenario) size() error {
	s.Memory = s.opt.Memory
	if s.Memory == 0 {
		n, i, ok := MemorySize(s.recs)
		if !ok {
			return s.errorf(i, "memory beyond %d GiB", uint64(MaxRAM>>30))
		}
		s.Memory = n
	}
	for i, rec := range s.recs {
		for j := range rec.Memory {
			if r := rec.Memory[j].Range(); addr.Len(r.Last()) >= s.Memory {
				return s.errorf(i, "memory[%d]: %v lies outside the guest's %d MiB", j, r, uint64(s.Memory>>20))
			}
		}
		if rec.Expect == nil {
			continue
		}
		for j := range rec.Expect.Memory {
			if r := rec.Expect.Memory[j].Range(); addr.Len(r.Last()) >= s.Memory {
				return s.errorf(i, "expect.memory[%d]: %v lies outside the guest's %d MiB", j, r, uint64(s.Memory>>20))
			}
		}
	}
	return nil
}

func (s *Scenario) errorf(i int, format string, args ...any) error {
	return &recording.Error{File: s.File, Line: s.lines[i], Err: fmt.Errorf(format, args...)}
}

// index is the index of the record with that seq, or -1.
func (s *Scenario) index(seq int) int {
	i, found := slices.BinarySearchFunc(s.recs, seq, func(r *recording.Record, seq int) int { return cmp.Compare(r.Seq, seq) })
	if !found {
		return -1
	}
	return i
}

// chain finds, for each scenario that starts from the state of another, that
// other one: a copy of it, so that each runs by itself.
func chain(all []*Scenario, opt *Options) error {
	if opt.Device == Scripted {
		return nil
	}
	for _, s := range all {
		name := cmp.Or(opt.After[s.Name], startsAfter[s.Name])
		if name == "" || s.hasImages() {
			continue
		}
		from, err := s.find(name, all)
		if err != nil {
			return err
		}
		s.from = from
	}
	return nil
}

// hasImages reports whether all devices of s have an image of their own.
func (s *Scenario) hasImages() bool {
	for _, rec := range s.recs {
		d := &rec.Device
		if s.opt.Images[d.Key()] != "" {
			continue
		}
		if _, err := imageOf(s.File, s.Name, d, ".ckd", ".fba", ".aws", ".cards"); err != nil {
			return false
		}
	}
	return true
}

// find is the scenario name among all, or beside the file of s. Nil and no
// error means that it is nowhere.
func (s *Scenario) find(name string, all []*Scenario) (*Scenario, error) {
	for _, x := range all {
		if x.Name == name && filepath.Dir(x.File) == filepath.Dir(s.File) {
			c := *x
			return &c, nil
		}
	}
	for _, ext := range []string{".jsonl.gz", ".jsonl.zst", ".jsonl"} {
		file := filepath.Join(filepath.Dir(s.File), name+ext)
		if _, err := os.Stat(file); err != nil {
			continue
		}
		list, err := LoadFile(file, s.opt)
		if err != nil {
			return nil, err
		}
		for _, x := range list {
			if x.Name == name {
				return x, nil
			}
		}
	}
	return nil, nil
}

// reset puts the devices into their initial state. For a scenario that starts
// from another's, that is the state the other one ends in; run does that.
func (s *Scenario) reset() error {
	s.models = make(map[string]*model)
	if s.from != nil {
		return s.from.reset()
	}
	return s.fill()
}

// fill makes the models that s does not have yet.
func (s *Scenario) fill() error {
	for i, rec := range s.recs {
		d := &rec.Device
		key := d.Key()
		if s.models[key] != nil {
			continue
		}
		m, err := s.newModel(d)
		if err != nil {
			var at *recording.Error
			if errors.As(err, &at) {
				return err
			}
			return s.errorf(i, "%w", err)
		}
		s.models[key] = m
	}
	return nil
}

// shared reports whether others map the guest's memory.
func (o *Options) shared() bool { return o.Via == Shared || o.Via == Direct && len(o.Sockets) > 0 }

func (s *Scenario) newModel(d *recording.Device) (*model, error) {
	if path := s.opt.Sockets[d.Key()]; path != "" {
		return &model{kind: KindOf(d, s.recs), emulated: true, socket: path}, nil
	}
	if s.opt.Device == Scripted {
		return newScripted(KindOf(d, s.recs)), nil
	}
	m, err := s.newEmulated(d, s.opt.Images[d.Key()])
	if err == nil {
		return m, nil
	}
	if s.opt.Device == Auto && (errors.Is(err, errNoImage) || errors.Is(err, errNoModel)) {
		return newScripted(KindOf(d, s.recs)), nil
	}
	return nil, err
}

// inherit takes the models of the scenario that s starts from, which has run.
func (s *Scenario) inherit() error {
	for key, m := range s.from.models {
		if m.emulated && m.before == nil {
			s.models[key] = m
		}
	}
	return s.fill()
}
