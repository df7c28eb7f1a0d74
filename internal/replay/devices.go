package replay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/channel/scripted"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/dasd"
	"github.com/softmdev/softmdev/ccw/fba"
	"github.com/softmdev/softmdev/ccw/unit"
	"github.com/softmdev/softmdev/internal/recording"
)

// model is the hardware that a device of a scenario is replayed on. It lives
// as long as the scenario, or longer when another starts from its state.
type model struct {
	kind     Kind
	emulated bool
	dev      channel.Device
	image    string // file of its initial image, "" where it has none
	socket   string // where it is served by another process, else ""
	// before, if not nil, sets the outside world up for a record: cards in
	// the hopper, lines typed.
	before func(r *prepared)
}

// newScripted plays the recorded device side.
func newScripted(kind Kind) *model {
	d := scripted.New(nil)
	return &model{kind: kind, dev: d, before: func(r *prepared) { d.Load(r.ops()) }}
}

// imageLimit bounds an initial image in memory: a 3390-3 has 2.8 GB.
const imageLimit = 3 << 30

// loadImage reads an initial image, plain or compressed, once.
func (s *Scenario) loadImage(path string) ([]byte, error) {
	if b := s.images[path]; b != nil {
		return b, nil
	}
	b, err := readImage(path)
	if err == nil {
		s.images[path] = b
	}
	return b, err
}

func readImage(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The name must not promise what the content of an image need not keep.
	r, closer, err := recording.Decompress("", f)
	if err != nil {
		return nil, err
	}
	if closer != nil {
		defer closer()
	}
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(r, imageLimit+1))
	if err == nil && n > imageLimit {
		err = fmt.Errorf("image larger than %d bytes", int64(imageLimit))
	}
	return b.Bytes(), err
}

// errNoImage says that a model needs an initial image and none is there.
var errNoImage = errors.New("no initial image")

// imageOf finds the initial image of a device beside the recording at file:
// init/<scenario>-v<last three hex digits of the device number><ext>, plain or
// compressed.
func imageOf(file, scenario string, d *recording.Device, exts ...string) (string, error) {
	if !d.HasDevNo {
		return "", fmt.Errorf("%w: device %s has no device number", errNoImage, d.Key())
	}
	base := filepath.Join(filepath.Dir(file), "init", fmt.Sprintf("%s-v%03x", filepath.Base(scenario), d.DevNo&0xfff))
	for _, ext := range exts {
		for _, z := range []string{".gz", ".zst", ""} {
			p := base + ext + z
			if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("%w: looked for %s%s[.gz|.zst]", errNoImage, base, strings.Join(exts, "|"))
}

// newEmulated is the model of d in its initial state. Errors that wrap
// errNoImage or errNoModel leave the scripted device as a way out; others are
// bad input.
func (s *Scenario) newEmulated(d *recording.Device, image string) (*model, error) {
	kind := KindOf(d, s.recs)
	find := func(exts ...string) (path string, b []byte, err error) {
		if path = image; path == "" {
			if path, err = imageOf(s.File, s.Name, d, exts...); err != nil {
				return "", nil, err
			}
		}
		if b, err = s.loadImage(path); err != nil {
			err = &recording.Error{File: path, Err: plain(err)}
		}
		return path, b, err
	}
	switch kind {
	case KindECKD:
		path, b, err := find(".ckd")
		if err != nil {
			return nil, err
		}
		img, err := dasd.FromBytes(b)
		if err != nil {
			return nil, &recording.Error{File: path, Err: err}
		}
		v, err := dasd.Open(img, s.eckdConfig(d))
		if err != nil {
			return nil, &recording.Error{File: path, Err: err}
		}
		if err := sameUnit(d, v.SenseID()); err != nil {
			return nil, err
		}
		g := v.Geometry()
		return &model{kind: kind, emulated: true, dev: v, image: path}, s.sameSize(path, d, func(rdc []byte) (want, have uint64) {
			if len(rdc) < 16 {
				return 0, 0
			}
			cyls := uint64(binary.BigEndian.Uint16(rdc[12:]))
			if cyls == 0xfffe && len(rdc) >= 64 {
				cyls = uint64(binary.BigEndian.Uint32(rdc[60:]))
			}
			return cyls, uint64(g.Cylinders)
		}, "cylinders")
	case KindFBA:
		path, b, err := find(".fba")
		if err != nil {
			return nil, err
		}
		img, err := fba.NewMemory(b)
		if err != nil {
			return nil, &recording.Error{File: path, Err: err}
		}
		v, err := fba.Open(img, fbaConfig(d, len(b)))
		if err != nil {
			return nil, &recording.Error{File: path, Err: err}
		}
		if err := sameUnit(d, v.SenseID()); err != nil {
			return nil, err
		}
		return &model{kind: kind, emulated: true, dev: v, image: path}, s.sameSize(path, d, func(rdc []byte) (want, have uint64) {
			if len(rdc) < 18 {
				return 0, 0
			}
			return uint64(binary.BigEndian.Uint32(rdc[14:])), uint64(v.Blocks())
		}, "blocks")
	case KindConsole:
		if s.wentAway(d) {
			return nil, fmt.Errorf("%w of device %s: its operator went away", errNoModel, d.Key())
		}
		return newConsole(), nil
	case KindReader:
		path := image
		if path == "" {
			// Decks of synthetic scenarios serve a family: vec0, vec1.
			family := strings.TrimRight(s.Name, "0123456789")
			path = filepath.Join(filepath.Dir(s.File), "init", filepath.Base(family)+"-cards.bin")
			if _, err := os.Stat(path); err != nil {
				if path, err = imageOf(s.File, s.Name, d, ".cards"); err != nil {
					return nil, err
				}
			}
		}
		b, err := s.loadImage(path)
		if err == nil && (len(b) == 0 || len(b)%unit.CardSize != 0) {
			err = fmt.Errorf("%d bytes are no whole number of cards of %d columns", len(b), unit.CardSize)
		}
		if err != nil {
			return nil, &recording.Error{File: path, Err: plain(err)}
		}
		m := s.newReader(d, b)
		m.image = path
		return m, nil
	case KindPrinter:
		p, err := unit.NewPrinter(nil)
		if err != nil {
			return nil, err
		}
		return &model{kind: kind, emulated: true, dev: p}, nil
	case KindTape:
		return s.newTape(d, image)
	}
	return nil, fmt.Errorf("%w of device %s (%v)", errNoModel, d.Key(), kind)
}

// errNoModel says that there is no model of a device.
var errNoModel = errors.New("no model")

// plain drops the path that the position of an error says already.
func plain(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// fbaConfig is the configuration of the recorded fixed-block drive, as its sense
// ID shows it, with an image of size bytes. A drive that we do not know is left
// to sameUnit.
func fbaConfig(d *recording.Device, size int) *fba.Config {
	if len(d.SenseID) < fba.SenseIDSize {
		return nil
	}
	m, ok := fba.ModelOf(binary.BigEndian.Uint16(d.SenseID[4:]), uint32(size/fba.BlockSize))
	if !ok {
		return nil
	}
	return &fba.Config{Model: m}
}

// readCharacteristics is the command by which a disk tells its size.
const readCharacteristics cio.Command = 0x64

// sameSize compares the size of an image with what the recorded volume said of
// itself, if a program asked: an image of another size is another volume.
func (s *Scenario) sameSize(path string, d *recording.Device, sizes func(rdc []byte) (want, have uint64), unit string) error {
	for i, rec := range s.recs {
		if rec.Device.Key() != d.Key() {
			continue
		}
		for _, rdc := range answersOf(rec, readCharacteristics) {
			if want, have := sizes(rdc); want != have {
				return &recording.Error{File: path, Err: fmt.Errorf("%d %s, but %s:%d was recorded on a volume of %d", have, unit, s.File, s.lines[i], want)}
			}
		}
	}
	return nil
}

// answersOf is what the operations of cmd in rec delivered.
func answersOf(rec *recording.Record, cmd cio.Command) [][]byte {
	if !slices.ContainsFunc(rec.Trace, func(s recording.Step) bool { return cio.Command(s.Cmd) == cmd }) {
		return nil
	}
	list, _ := newProgram(rec).reads(func(c cio.Command) bool { return c == cmd })
	return list
}

// answers is what device d delivered for cmd in all of the scenario.
func (s *Scenario) answers(d *recording.Device, cmd cio.Command) (list [][]byte) {
	for _, rec := range s.recs {
		if rec.Device.Key() == d.Key() {
			list = append(list, answersOf(rec, cmd)...)
		}
	}
	return list
}

// wentAway reports whether a program of device d ended because an operator had
// to intervene: whoever was at the terminal had left it. Our operator stays.
func (s *Scenario) wentAway(d *recording.Device) bool {
	for _, rec := range s.recs {
		if n := len(rec.Trace); rec.Device.Key() == d.Key() && n > 0 && cio.DeviceStatus(rec.Trace[n-1].DStat)&cio.UnitCheck != 0 {
			if b := newProgram(rec).senseLeft(); len(b) > 0 && cio.Sense0(b[0])&cio.InterventionRequired != 0 {
				return true
			}
		}
	}
	return false
}

// newConsole is a console at which the operator types what was recorded.
func newConsole() *model {
	type line struct {
		text []byte
		ok   bool
	}
	var typed []line
	c := unit.NewConsole3215(&unit.Console3215Config{Prompt: func() ([]byte, bool) {
		if len(typed) == 0 {
			return nil, false
		}
		l := typed[0]
		typed = typed[1:]
		return l.text, l.ok
	}})
	return &model{kind: KindConsole, emulated: true, dev: c, before: func(r *prepared) {
		typed = typed[:0]
		data, status := r.p.reads(func(c cio.Command) bool { return c.Class(true) == cio.ClassRead })
		for i := range data {
			typed = append(typed, line{data[i], status[i]&cio.UnitException == 0})
		}
	}}
}

// cardMark is how many columns tell a card from the others of its deck.
const cardMark = 16

// newReader is a card reader with deck in its hopper. The recording does not
// say how many cards were read before it: the first card that it shows does.
// Before each record the reader stands where the recorded reader stood, which
// may be further than ours when the recorded machine read a card for a program
// that the architecture refuses.
func (s *Scenario) newReader(d *recording.Device, deck []byte) *model {
	at := make(map[*recording.Record]int) // cards read before the record
	read, base, known := 0, 0, false
	feeds := func(c cio.Command) bool { return c&0x1f == 0x02 && c&0xc0 != 0xc0 || c&0x3f == 0x23 && c&0xc0 != 0xc0 }
	for _, rec := range s.recs {
		if rec.Device.Key() != d.Key() {
			continue
		}
		at[rec] = read
		data, status := newProgram(rec).reads(feeds)
		for i := range data {
			if !known && len(data[i]) >= cardMark {
				for k := 0; (k+1)*unit.CardSize <= len(deck); k++ {
					card := deck[k*unit.CardSize:][:unit.CardSize]
					if bytes.Equal(card[:cardMark], data[i][:cardMark]) {
						base, known = k-read, true
						break
					}
				}
			}
			if status[i]&cio.UnitCheck == 0 {
				read++
			}
		}
	}
	r := unit.NewReader(nil)
	return &model{kind: KindReader, emulated: true, dev: r, before: func(p *prepared) {
		off := max(0, base+at[p.rec]) * unit.CardSize
		r.Load(bytes.NewReader(deck[min(off, len(deck)):]))
	}}
}

// newTape is a drive with the tape of the scenario in it. A drive without its
// tape is as good as no model, unless a model is insisted on: then the tape is
// blank.
func (s *Scenario) newTape(d *recording.Device, image string) (*model, error) {
	cfg := unit.TapeConfig{Model: unit.Tape3420, Serial: uint32(d.DevNo)}
	if id := d.SenseID; len(id) >= 6 {
		cfg.Model = unit.TapeModel(binary.BigEndian.Uint16(id[4:]))
	}
	if image == "" {
		p, err := imageOf(s.File, s.Name, d, ".aws")
		if err != nil && s.opt.Device != Emulated {
			return nil, err
		}
		image = p
	}
	if list := s.answers(d, readCharacteristics); len(list) > 0 {
		cfg.Characteristics = list[0]
	}
	cfg.Cartridge = unit.NewCartridge(0)
	if image != "" {
		b, err := s.loadImage(image)
		if err == nil {
			cfg.Cartridge, err = unit.ParseCartridge(b)
		}
		if err != nil {
			return nil, &recording.Error{File: image, Err: plain(err)}
		}
	}
	t, err := unit.NewTape(&cfg)
	if err != nil {
		return nil, fmt.Errorf("%w of device %s: %w", errNoModel, d.Key(), err)
	}
	return &model{kind: KindTape, emulated: true, dev: t, image: image}, nil
}
