package recording

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	path []string
}

// positioned adds the path at which decoding stopped.
func (d *decoder) positioned(err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("line is cut off")
	case errors.As(err, &syntax):
		err = fmt.Errorf("bad JSON at byte %d: %s", syntax.Offset, strings.TrimPrefix(syntax.Error(), "json: "))
	}
	if len(d.path) == 0 {
		return err
	}
	return fmt.Errorf("%s: %w", strings.Join(d.path, ""), err)
}

func (d *decoder) push(s string) {
	if len(d.path) > 0 && s[0] != '[' {
		s = "." + s
	}
	d.path = append(d.path, s)
}

func (d *decoder) pop() { d.path = d.path[:len(d.path)-1] }

// fields maps the names an object may have to what reads their values.
type fields map[string]func() error

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
func (d *decoder) rest(f fields, required ...string) error {
	seen := make([]string, 0, 16)
	for {
		t, err := d.json.Token()
		if err != nil {
			return err
		}
		name, ok := t.(string)
		if !ok { // the closing brace: nothing else can stand here
			break
		}
		read := f[name]
		if read == nil {
			return fmt.Errorf("unknown field %q", clip(name))
		}
		for _, s := range seen {
			if s == name {
				return fmt.Errorf("field %q given twice", name)
			}
		}
		seen = append(seen, name)
		d.push(name)
		if err := read(); err != nil {
			return err
		}
		d.pop()
	}
	for _, name := range required {
		found := false
		for _, s := range seen {
			found = found || s == name
		}
		if !found {
			return fmt.Errorf("field %q is missing", name)
		}
	}
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
		d.push("[" + strconv.Itoa(i) + "]")
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
func (d *decoder) text(p *string) func() error {
	return func() (err error) { *p, _, err = d.str(); return err }
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
	for _, c := range []byte(s) {
		if !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			return 0, false, fmt.Errorf("bad hex number %q", clip(s))
		}
	}
	v, err := strconv.ParseUint(s, 16, bits)
	if err != nil {
		return 0, false, fmt.Errorf("want a hex number of up to %d bits, have %q", bits, clip(s))
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
func fixed[A [12]byte | [20]byte | [28]byte | [32]byte](d *decoder, p **A) func() error {
	return func() error {
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
}

// need turns the null of a required value into an error.
func need[T any](v T, ok bool, err error) (T, error) {
	if err == nil && !ok {
		err = errors.New("must not be null")
	}
	return v, err
}

func oneOf[S ~string](d *decoder, p *S, values ...S) func() error {
	return func() error {
		s, err := need(d.str())
		if err != nil {
			return err
		}
		for _, v := range values {
			if s == string(v) {
				*p = v
				return nil
			}
		}
		return fmt.Errorf("unknown value %q", clip(s))
	}
}

func (d *decoder) record() (*Record, error) {
	r := &Record{End: Ended}
	var orb *[32]byte
	// The version decides what everything else means, so a wrong one is
	// reported before any fault that only a later version could explain.
	version := func() error {
		v, err := need(d.number(1 << 30))
		if err == nil && v != Version {
			err = fmt.Errorf("unknown version %d, want %d", v, Version)
		}
		return err
	}
	f := fields{
		"v": version,
		"kind": func() error {
			s, _, err := d.str()
			if err == nil && s != "" && s != "ccw" {
				err = fmt.Errorf("unknown kind %q", clip(s))
			}
			r.Kind = s
			return err
		},
		"scenario": func() (err error) {
			if r.Scenario, err = need(d.str()); err == nil && r.Scenario == "" {
				err = errors.New("empty")
			}
			return err
		},
		"seq": func() error {
			v, err := need(d.number(1<<31 - 1))
			r.Seq = int(v)
			return err
		},
		"name":   d.text(&r.Name),
		"os":     d.text(&r.OS),
		"source": d.text(&r.Source),
		"op":     oneOf(d, &r.Op, StartSubchannel, ResumeSubchannel),
		"end":    oneOf(d, &r.End, Ended, Suspended, Halted, Cleared, Async),
		"device": func() error { return d.device(&r.Device) },
		"orb": func() error {
			err := fixed(d, &orb)()
			if err == nil && orb == nil {
				err = errors.New("must not be null")
			}
			return err
		},
		"pmcw":         fixed(d, &r.PMCW),
		"sense_before": fixed(d, &r.SenseBefore),
		"memory":       func() (err error) { r.Memory, err = d.segments(); return err },
		"trace":        func() (err error) { r.Trace, err = d.trace(); return err },
		"expect":       func() (err error) { r.Expect, err = d.expect(); return err },
		"host_ns": func() error {
			v, ok, err := d.number(1<<63 - 1)
			if ok {
				r.HostNS = &v
			}
			return err
		},
	}
	if err := d.object(f, "v", "scenario", "seq", "op", "device", "orb", "memory"); err != nil {
		return nil, err
	}
	r.ORB = *orb
	return r, nil
}

func (d *decoder) device(v *Device) error {
	return d.object(fields{
		"schid": func() error {
			n, err := need(d.hexNumber(32))
			v.SchID = uint32(n)
			return err
		},
		"devno": func() error {
			n, ok, err := d.hexNumber(16)
			v.DevNo, v.HasDevNo = uint16(n), ok
			return err
		},
		"sense_id": func() (err error) {
			v.SenseID, err = d.bytes()
			if err == nil && len(v.SenseID) > 255 {
				err = fmt.Errorf("want at most 255 bytes, have %d", len(v.SenseID))
			}
			return err
		},
		"cu":  d.text(&v.CU),
		"dev": d.text(&v.Dev),
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
		d.push("[" + strconv.Itoa(j) + "]")
		return nil, fmt.Errorf("%v overlaps [%d] %v", segs[j].Range(), i, segs[i].Range())
	}
	return segs, nil
}

func (d *decoder) segment() (s Segment, err error) {
	var hasHex, hasFill, hasLen bool
	err = d.object(fields{
		"gpa": func() error {
			v, err := need(d.hexNumber(64))
			s.GPA = addr.GPA(v)
			return err
		},
		"hex": func() error {
			b, err := d.bytes()
			if err == nil && len(b) == 0 {
				err = errors.New("empty")
			}
			s.Data, hasHex = b, true
			return err
		},
		"fill": func() error {
			b, err := d.bytes()
			if err == nil && len(b) != 1 {
				err = fmt.Errorf("want one byte, have %d", len(b))
			}
			if err == nil {
				s.Fill, hasFill = b[0], true
			}
			return err
		},
		"len": func() error {
			v, err := need(d.number(int64(d.lim.Image)))
			if err == nil && v == 0 {
				err = errors.New("zero")
			}
			s.N, hasLen = addr.Len(v), true
			return err
		},
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
	hexByte := func(p *byte, n *int) func() error {
		return func() error {
			v, err := need(d.hexNumber(8))
			*p = byte(v)
			*n++
			return err
		}
	}
	count := func(p *uint16, n *int) func() error {
		return func() error {
			v, err := need(d.number(65535))
			*p = uint16(v)
			*n++
			return err
		}
	}
	status, other := 0, 0
	err = d.object(fields{
		"at": func() error {
			v, err := need(d.hexNumber(32))
			s.At = addr.GPA(v)
			return err
		},
		"cda": func() error {
			v, err := need(d.hexNumber(32))
			s.CDA = uint32(v)
			return err
		},
		"cmd":   hexByte(&s.Cmd, &other),
		"flags": hexByte(&s.Flags, &other),
		"count": count(&s.Count, &other),
		"dstat": hexByte(&s.DStat, &status),
		"cstat": hexByte(&s.CStat, &status),
		"resid": count(&s.Resid, &status),
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
	err = d.rest(fields{
		"scsw":        fixed(d, &e.SCSW),
		"esw":         fixed(d, &e.ESW),
		"ecw":         fixed(d, &e.ECW),
		"sense_after": fixed(d, &e.SenseAfter),
		"memory": func() (err error) {
			e.HasMemory = true
			e.Memory, err = d.segments()
			return err
		},
		"irb": func() (err error) {
			e.IRB, err = d.bytes()
			if n := len(e.IRB); err == nil && n != 0 && n != 64 && n != 96 {
				err = fmt.Errorf("want 64 or 96 bytes, have %d", n)
			}
			if len(e.IRB) == 0 {
				e.IRB = nil
			}
			return err
		},
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
