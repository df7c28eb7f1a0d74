package recording

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/softmdev/softmdev/translate/addr"
)

// Decode reads one line. Its errors begin with the path of the field at fault
// ("memory[3].hex: odd length").
func Decode(line []byte, lim *Limits) (*Record, error) {
	lim = lim.orDefault()
	if len(line) > lim.Line {
		return nil, fmt.Errorf("line longer than %d bytes", lim.Line)
	}
	d := decoder{json: json.NewDecoder(bytes.NewReader(line)), lim: lim}
	d.json.UseNumber()
	rec, err := d.record()
	if err != nil {
		return nil, d.positioned(err)
	}
	if _, err := d.json.Token(); err != io.EOF {
		return nil, errors.New("more than one value on the line")
	}
	return rec, nil
}

// decoder walks the tokens of one line and keeps the path to where it is, so
// that each error can say which field it is about. encoding/json's own
// decoding into structs would take a field written in another case and a
// field given twice, and says no path.
type decoder struct {
	json *json.Decoder
	lim  *Limits
	path []step
	seen []string // field names of the objects that are open
}

// step is one step of the path: a field, or an element of a list.
type step struct {
	field string
	index int
}

// errCutOff says that the line ended in the middle of a value.
var errCutOff = errors.New("line is cut off")

// positioned adds the path at which decoding stopped.
func (d *decoder) positioned(err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errCutOff
	case errors.As(err, &syntax):
		err = fmt.Errorf("bad JSON at byte %d: %s", syntax.Offset, strings.TrimPrefix(syntax.Error(), "json: "))
	}
	if len(d.path) == 0 {
		return err
	}
	var b strings.Builder
	for i, s := range d.path {
		switch {
		case s.field == "":
			fmt.Fprintf(&b, "[%d]", s.index)
		case i > 0:
			b.WriteString("." + s.field)
		default:
			b.WriteString(s.field)
		}
	}
	return fmt.Errorf("%s: %w", b.String(), err)
}

func (d *decoder) push(field string, index int) { d.path = append(d.path, step{field, index}) }

func (d *decoder) pop() { d.path = d.path[:len(d.path)-1] }

// fields reads the value of the field of that name, or says unknown.
type fields func(name string) error

// errUnknown is what fields returns for a name that the object has not.
var errUnknown = errors.New("unknown field")

// object reads an object whose fields are f, those in required at least.
func (d *decoder) object(f fields, required ...string) error {
	t, err := d.json.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return fmt.Errorf("want an object, have %s", describe(t))
	}
	return d.rest(f, required...)
}

// rest reads an object whose brace has been read.
func (d *decoder) rest(read fields, required ...string) error {
	base := len(d.seen)
	for {
		t, err := d.json.Token()
		if err != nil {
			return err
		}
		name, ok := t.(string)
		if !ok { // the closing brace: nothing else can stand here
			break
		}
		if slices.Contains(d.seen[base:], name) {
			return fmt.Errorf("field %q given twice", clip(name))
		}
		d.seen = append(d.seen, name)
		d.push(name, 0)
		if err := read(name); err != nil {
			if err == errUnknown {
				d.pop()
				err = fmt.Errorf("unknown field %q", clip(name))
			}
			return err
		}
		d.pop()
	}
	for _, name := range required {
		if !slices.Contains(d.seen[base:], name) {
			return fmt.Errorf("field %q is missing", name)
		}
	}
	d.seen = d.seen[:base]
	return nil
}

// list reads an array and calls item for each element.
func (d *decoder) list(item func() error) error {
	t, err := d.json.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('[') {
		return fmt.Errorf("want a list, have %s", describe(t))
	}
	for i := 0; d.json.More(); i++ {
		d.push("", i)
		if err := item(); err != nil {
			return err
		}
		d.pop()
	}
	_, err = d.json.Token()
	return err
}

// str reads a string; null is "" and ok=false.
func (d *decoder) str() (s string, ok bool, err error) {
	t, err := d.json.Token()
	if err != nil {
		return "", false, err
	}
	if t == nil {
		return "", false, nil
	}
	s, ok = t.(string)
	if !ok {
		return "", false, fmt.Errorf("want a string, have %s", describe(t))
	}
	return s, true, nil
}

// text is a field of free text.
func (d *decoder) text(p *string) (err error) {
	*p, _, err = d.str()
	return err
}

// number reads an integer in [0, limit].
func (d *decoder) number(limit int64) (int64, bool, error) {
	t, err := d.json.Token()
	if err != nil {
		return 0, false, err
	}
	if t == nil {
		return 0, false, nil
	}
	n, ok := t.(json.Number)
	if !ok {
		return 0, false, fmt.Errorf("want a number, have %s", describe(t))
	}
	v, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil || v < 0 || v > limit {
		return 0, false, fmt.Errorf("want an integer from 0 to %d, have %s", limit, clip(n.String()))
	}
	return v, true, nil
}

// hexNumber reads a hexadecimal number of at most the given bits.
func (d *decoder) hexNumber(bits int) (uint64, bool, error) {
	s, ok, err := d.str()
	if err != nil || !ok {
		return 0, ok, err
	}
	// With base 16 neither a sign nor a prefix is accepted.
	v, err := strconv.ParseUint(s, 16, bits)
	if errors.Is(err, strconv.ErrRange) {
		return 0, false, fmt.Errorf("want a hex number of up to %d bits, have %q", bits, clip(s))
	}
	if err != nil {
		return 0, false, fmt.Errorf("bad hex number %q", clip(s))
	}
	return v, true, nil
}

// bytes reads a hex string; null is nil.
func (d *decoder) bytes() ([]byte, error) {
	s, ok, err := d.str()
	if err != nil || !ok {
		return nil, err
	}
	if len(s)%2 != 0 {
		return nil, errors.New("odd length")
	}
	b, err := hex.DecodeString(s)
	var bad hex.InvalidByteError
	if errors.As(err, &bad) {
		return nil, fmt.Errorf("bad hex: %s", strconv.QuoteRune(rune(bad)))
	}
	return b, err
}

// fixed is a field of exactly len(array) bytes; null leaves *p nil.
func fixed[A [12]byte | [20]byte | [28]byte | [32]byte](d *decoder, p **A) error {
	b, err := d.bytes()
	if err != nil || b == nil {
		return err
	}
	a := new(A)
	if len(b) != len(*a) {
		return fmt.Errorf("want %d bytes, have %d", len(*a), len(b))
	}
	for i, v := range b {
		(*a)[i] = v
	}
	*p = a
	return nil
}

// need turns the null of a required value into an error.
func need[T any](v T, ok bool, err error) (T, error) {
	if err == nil && !ok {
		err = errors.New("must not be null")
	}
	return v, err
}

func oneOf[S ~string](d *decoder, p *S, values ...S) error {
	s, err := need(d.str())
	if err != nil {
		return err
	}
	if !slices.Contains(values, S(s)) {
		return fmt.Errorf("unknown value %q", clip(s))
	}
	*p = S(s)
	return nil
}

func (d *decoder) record() (*Record, error) {
	r := &Record{End: Ended}
	var orb *[32]byte
	err := d.object(func(name string) (err error) {
		switch name {
		case "v":
			v, err := need(d.number(1 << 30))
			if err == nil && v != Version {
				err = fmt.Errorf("unknown version %d, want %d", v, Version)
			}
			return err
		case "kind":
			if err = d.text(&r.Kind); err == nil && r.Kind != "" && r.Kind != "ccw" {
				err = fmt.Errorf("unknown kind %q", clip(r.Kind))
			}
		case "scenario":
			if r.Scenario, err = need(d.str()); err == nil && r.Scenario == "" {
				err = errors.New("empty")
			}
		case "seq":
			v, err := need(d.number(1<<31 - 1))
			r.Seq = int(v)
			return err
		case "name":
			return d.text(&r.Name)
		case "os":
			return d.text(&r.OS)
		case "source":
			return d.text(&r.Source)
		case "op":
			return oneOf(d, &r.Op, StartSubchannel, ResumeSubchannel)
		case "end":
			return oneOf(d, &r.End, Ended, Suspended, Halted, Cleared, Async)
		case "device":
			return d.device(&r.Device)
		case "orb":
			if err = fixed(d, &orb); err == nil && orb == nil {
				err = errors.New("must not be null")
			}
		case "pmcw":
			return fixed(d, &r.PMCW)
		case "sense_before":
			return fixed(d, &r.SenseBefore)
		case "memory":
			r.Memory, err = d.segments()
		case "trace":
			r.Trace, err = d.trace()
		case "expect":
			r.Expect, err = d.expect()
		case "host_ns":
			v, ok, err := d.number(1<<63 - 1)
			if ok {
				r.HostNS = &v
			}
			return err
		default:
			return errUnknown
		}
		return err
	}, "v", "scenario", "seq", "op", "device", "orb", "memory")
	if err != nil {
		return nil, err
	}
	r.ORB = *orb
	return r, nil
}

func (d *decoder) device(v *Device) error {
	return d.object(func(name string) (err error) {
		switch name {
		case "schid":
			n, err := need(d.hexNumber(32))
			v.SchID = uint32(n)
			return err
		case "devno":
			n, ok, err := d.hexNumber(16)
			v.DevNo, v.HasDevNo = uint16(n), ok
			return err
		case "sense_id":
			if v.SenseID, err = d.bytes(); err == nil && len(v.SenseID) > 255 {
				err = fmt.Errorf("want at most 255 bytes, have %d", len(v.SenseID))
			}
		case "cu":
			return d.text(&v.CU)
		case "dev":
			return d.text(&v.Dev)
		default:
			return errUnknown
		}
		return err
	}, "schid")
}

func (d *decoder) segments() ([]Segment, error) {
	var segs []Segment
	var total addr.Len
	err := d.list(func() error {
		s, err := d.segment()
		if err != nil {
			return err
		}
		if _, ok := addr.RangeOf(s.GPA, s.Len()); !ok {
			return fmt.Errorf("gpa %#x: %d bytes pass 2^64", uint64(s.GPA), uint64(s.Len()))
		}
		// Neither sum can wrap: total and the limit of one segment are
		// both far below 2^63.
		if total += s.Len(); total > d.lim.Image {
			return fmt.Errorf("memory image larger than %d bytes", uint64(d.lim.Image))
		}
		segs = append(segs, s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if i, j, found := Overlap(segs); found {
		d.push("", j)
		return nil, fmt.Errorf("%v overlaps [%d] %v", segs[j].Range(), i, segs[i].Range())
	}
	return segs, nil
}

func (d *decoder) segment() (s Segment, err error) {
	var hasHex, hasFill, hasLen bool
	err = d.object(func(name string) error {
		switch name {
		case "gpa":
			v, err := need(d.hexNumber(64))
			s.GPA = addr.GPA(v)
			return err
		case "hex":
			b, err := d.bytes()
			if err == nil && len(b) == 0 {
				err = errors.New("empty")
			}
			s.Data, hasHex = b, true
			return err
		case "fill":
			b, err := d.bytes()
			if err == nil && len(b) != 1 {
				err = fmt.Errorf("want one byte, have %d", len(b))
			}
			if err == nil {
				s.Fill, hasFill = b[0], true
			}
			return err
		case "len":
			v, err := need(d.number(int64(d.lim.Image)))
			if err == nil && v == 0 {
				err = errors.New("zero")
			}
			s.N, hasLen = addr.Len(v), true
			return err
		}
		return errUnknown
	}, "gpa")
	if err == nil && (hasHex == (hasFill || hasLen) || hasFill != hasLen) {
		err = errors.New("want either hex, or fill and len")
	}
	return s, err
}

func (d *decoder) trace() ([]Step, error) {
	var steps []Step
	err := d.list(func() error {
		s, err := d.step()
		steps = append(steps, s)
		return err
	})
	return steps, err
}

func (d *decoder) step() (s Step, err error) {
	status := 0
	err = d.object(func(name string) (err error) {
		var v uint64
		var n int64
		switch name {
		case "at":
			v, err = need(d.hexNumber(32))
			s.At = addr.GPA(v)
		case "cda":
			v, err = need(d.hexNumber(32))
			s.CDA = uint32(v)
		case "cmd":
			v, err = need(d.hexNumber(8))
			s.Cmd = byte(v)
		case "flags":
			v, err = need(d.hexNumber(8))
			s.Flags = byte(v)
		case "count":
			n, err = need(d.number(65535))
			s.Count = uint16(n)
		case "dstat":
			v, err = need(d.hexNumber(8))
			s.DStat, status = byte(v), status+1
		case "cstat":
			v, err = need(d.hexNumber(8))
			s.CStat, status = byte(v), status+1
		case "resid":
			n, err = need(d.number(65535))
			s.Resid, status = uint16(n), status+1
		default:
			return errUnknown
		}
		return err
	}, "at", "cmd", "flags", "count", "cda")
	if err == nil && status != 0 && status != 3 {
		err = errors.New("want all of dstat, cstat and resid, or none")
	}
	s.Ended = status == 3
	return s, err
}

func (d *decoder) expect() (*Expect, error) {
	t, err := d.json.Token()
	if err != nil || t == nil {
		return nil, err
	}
	if t != json.Delim('{') {
		return nil, fmt.Errorf("want an object, have %s", describe(t))
	}
	e := &Expect{}
	err = d.rest(func(name string) (err error) {
		switch name {
		case "scsw":
			return fixed(d, &e.SCSW)
		case "esw":
			return fixed(d, &e.ESW)
		case "ecw":
			return fixed(d, &e.ECW)
		case "sense_after":
			return fixed(d, &e.SenseAfter)
		case "memory":
			e.HasMemory = true
			e.Memory, err = d.segments()
		case "irb":
			e.IRB, err = d.bytes()
			if n := len(e.IRB); err == nil && n != 0 && n != 64 && n != 96 {
				err = fmt.Errorf("want 64 or 96 bytes, have %d", n)
			}
			if len(e.IRB) == 0 {
				e.IRB = nil
			}
		default:
			return errUnknown
		}
		return err
	})
	return e, err
}

// describe names the kind of a token for an error.
func describe(t json.Token) string {
	switch v := t.(type) {
	case json.Delim:
		if v == '[' || v == ']' {
			return "a list"
		}
		return "an object"
	case string:
		return "the string " + strconv.Quote(clip(v))
	case json.Number:
		return "the number " + clip(v.String())
	case bool:
		return strconv.FormatBool(v)
	}
	return "null"
}

// clip keeps what a file says from filling the terminal.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
