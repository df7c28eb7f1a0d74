package channel_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/channel/scripted"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/stretchr/testify/require"
)

// A small loader of recordings, for these tests alone. It reads what they need
// and trusts the files of this repository.

type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	s, err := strconv.Unquote(string(b))
	if err != nil {
		return err
	}
	*h, err = hex.DecodeString(s)
	return err
}

type hexNumber uint64

func (h *hexNumber) UnmarshalJSON(b []byte) error {
	s, err := strconv.Unquote(string(b))
	if err != nil {
		return err
	}
	v, err := strconv.ParseUint(s, 16, 64)
	*h = hexNumber(v)
	return err
}

type segment struct {
	GPA  hexNumber
	Hex  hexBytes
	Fill hexBytes
	Len  int
}

func (s segment) bytes() []byte {
	if s.Fill == nil {
		return s.Hex
	}
	b := make([]byte, s.Len)
	for i := range b {
		b[i] = s.Fill[0]
	}
	return b
}

type traced struct {
	At, CDA    hexNumber
	Cmd, Flags hexNumber
	Count      int
	DStat      *hexNumber
	CStat      hexNumber
	Resid      int
}

type record struct {
	Seq         int
	Name        string
	Op          string
	ORB, PMCW   hexBytes
	SenseBefore hexBytes `json:"sense_before"`
	Memory      []segment
	Trace       []traced
	Expect      struct {
		SCSW, ESW, ECW hexBytes
		Memory         []segment
	}
}

func records(tb testing.TB, scenario string) []*record {
	tb.Helper()
	f, err := os.Open(filepath.Join("..", "..", "testdata", "ccw", scenario+".jsonl.gz"))
	require.NoError(tb, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(tb, err)
	var rs []*record
	sc := bufio.NewScanner(z)
	sc.Buffer(nil, 64<<20)
	for sc.Scan() {
		r := new(record)
		require.NoError(tb, json.Unmarshal(sc.Bytes(), r))
		rs = append(rs, r)
	}
	require.NoError(tb, sc.Err())
	return rs
}

func (r *record) orb() *cio.ORB {
	o := &cio.ORB{Raw: [cio.ORBExtendedSize]byte(r.ORB)}
	if o.LPM() == 0 {
		o.SetLPM(0xFF) // an initial program load has no ORB
	}
	return o
}

func (r *record) pmcw() (p cio.PMCW) {
	if r.PMCW == nil { // the QEMU recordings have none
		p.SetFlags(cio.PMCWEnabled | cio.PMCWValid | cio.PMCWConcurrentSense)
		p.SetPIM(0x80)
		p.SetPAM(0x80)
		return p
	}
	return cio.PMCW(r.PMCW)
}

// ops is the device side of the trace. Where the channel ended an operation
// with a check, the device would have gone on: it moves all that the counts
// say. A residual of zero after a rejected command is not true (ccw.md section
// 6); it moved nothing, and the count is let pass.
func (r *record) ops() []scripted.Op {
	before, fetched := newStorage(1<<40, 0), newStorage(1<<40, 0)
	after, stored := newStorage(1<<40, 0), newStorage(1<<40, 0)
	for _, s := range r.Memory {
		before.load(uint64(s.GPA), s.bytes())
		fetched.load(uint64(s.GPA), bytes.Repeat([]byte{1}, len(s.bytes())))
	}
	for _, s := range r.Expect.Memory {
		after.load(uint64(s.GPA), s.bytes())
		stored.load(uint64(s.GPA), bytes.Repeat([]byte{1}, len(s.bytes())))
	}
	orb := r.orb()
	f1 := orb.Format1()
	var ops []scripted.Op
	open := false
	for i, t := range r.Trace {
		cmd := cio.Command(t.Cmd)
		if !open && (cmd.IsTIC(f1) || cmd.Class(f1) == cio.ClassInvalid) || open && cmd.IsTIC(f1) {
			continue
		}
		if !open {
			ops = append(ops, scripted.Op{Command: cmd, Status: cio.Ended})
		}
		op := &ops[len(ops)-1]
		n, check := t.Count, false
		if t.DStat != nil {
			op.Status = cio.DeviceStatus(*t.DStat)
			n -= t.Resid
			op.More = t.Resid == 0 && t.CStat&0x40 != 0
			op.Accept = t.CStat&0x40 != 0
			check = t.CStat&0x3F != 0
			if op.Status&cio.UnitCheck != 0 {
				op.Sense = r.sense()
			}
		}
		input := op.Command.Class(f1).Input()
		known, moved := 0, op.Moved
		data := make([]byte, n)
		places(before, orb, &t, op.Command, n, func(a uint64, i int) {
			data[i] = after.byteAt(a)
			if input && stored.byteAt(a) != 0 || !input && fetched.byteAt(a) != 0 {
				known = i + 1
			}
		})
		op.Moved += n
		if check || input && (known > 0 || op.Status&cio.UnitCheck == 0) {
			known = n // what was not stored is made up of zeros
		}
		if input {
			op.Data = append(op.Data, make([]byte, moved-len(op.Data))...)
			op.Data = append(op.Data, data[:known]...)
		} else if known > 0 {
			op.Fetch = moved + known
		}
		open = cio.Flags(t.Flags)&cio.ChainData != 0 && i+1 < len(r.Trace) && (input || t.DStat == nil)
	}
	return ops
}

func (r *record) sense() []byte {
	if n := int(binary.BigEndian.Uint32(r.Expect.ESW[4:]) >> 16 & 0x3F); n != 0 {
		return r.Expect.ECW[:min(n, 32)]
	}
	return r.SenseBefore
}

// places calls f for the address of each of the first n bytes of a traced
// CCW, as far as its lists say.
func places(m *storage, orb *cio.ORB, t *traced, cmd cio.Command, n int, f func(a uint64, i int)) {
	backward := cmd.Class(orb.Format1()) == cio.ClassReadBackward
	done := 0
	run := func(a, k uint64) {
		for ; k > 0 && done < n; k-- {
			f(a, done)
			done++
			if backward {
				a--
			} else {
				a++
			}
		}
	}
	list := uint64(t.CDA)
	switch fl := cio.Flags(t.Flags); {
	case fl&cio.Skip != 0 && cmd.Class(orb.Format1()).Input():
	case fl&cio.Modified != 0:
		for i := 0; done < n && i < 256; i++ {
			w := cio.DecodeMIDAW((*[16]byte)(m.bytes(list, 16)))
			run(w.Addr, uint64(w.Count))
			list += 16
		}
	case fl&cio.Indirect != 0:
		block := uint64(orb.Block())
		for done < n {
			var a uint64
			if orb.IDAW2() {
				a = binary.BigEndian.Uint64(m.bytes(list, 8))
				list += 8
			} else {
				a = uint64(binary.BigEndian.Uint32(m.bytes(list, 4)))
				list += 4
			}
			if backward {
				run(a, a%block+1)
			} else {
				run(a, block-a%block)
			}
		}
	default:
		run(list, uint64(n))
	}
}

// replayer runs records, each on a subchannel of its own, but a resume on
// that of the record before.
type replayer struct {
	mem, want *storage // what the program works on, what it should become
	dev       *scripted.Device
	sub       *channel.Subchannel
	irb       cio.IRB // the last one taken
}

const poison = 0x5A

// run runs r and returns the last interruption response. Intermediate status
// is taken as it comes, as a guest's interrupt handler does.
func (p *replayer) run(r *record, size uint64) cio.IRB {
	if r.Op != "rsch" {
		p.mem, p.want, p.dev = newStorage(size, poison), newStorage(size, poison), scripted.New(nil)
		p.sub = channel.New(p.mem, p.dev, r.pmcw(), &channel.Config{Interrupt: func() { p.sub.Test(&p.irb) }})
	}
	for _, s := range r.Memory {
		p.mem.load(uint64(s.GPA), s.bytes())
		p.want.load(uint64(s.GPA), s.bytes())
	}
	for _, s := range r.Expect.Memory {
		p.want.load(uint64(s.GPA), s.bytes())
	}
	p.dev.Load(r.ops())
	if r.Op == "rsch" {
		p.sub.Resume()
	} else {
		p.sub.Start(r.orb())
	}
	return p.irb
}

// differs names the first byte of storage that is not as it should be: what
// was to be stored, and nothing else.
func (p *replayer) differs() string {
	var bad []uint64
	for n := range p.want.pages {
		p.mem.page(n << addr.PageShift)
	}
	for n, pg := range p.mem.pages {
		w := p.want.page(n << addr.PageShift)
		for i := range pg {
			if w[i] != pg[i] {
				bad = append(bad, n<<addr.PageShift+uint64(i))
				break
			}
		}
	}
	if len(bad) == 0 {
		return ""
	}
	slices.Sort(bad)
	return fmt.Sprintf("storage at %#x: got %02x want %02x", bad[0], p.mem.byteAt(bad[0]), p.want.byteAt(bad[0]))
}

// against is what differs from the record, each difference as a sentence.
func (p *replayer) against(r *record, irb *cio.IRB) (diffs []string) {
	field := func(name string, got, want []byte) {
		if want != nil && !bytes.Equal(got, want) {
			diffs = append(diffs, fmt.Sprintf("%s: got %x want %x", name, got, want))
		}
	}
	field("scsw", irb.SCSW[:], r.Expect.SCSW)
	field("esw", irb.ESW[:], r.Expect.ESW)
	field("ecw", irb.ECW[:], r.Expect.ECW)
	if d := p.differs(); d != "" {
		diffs = append(diffs, d)
	}
	if err := p.dev.Err(); err != nil {
		diffs = append(diffs, err.Error())
	}
	return diffs
}
