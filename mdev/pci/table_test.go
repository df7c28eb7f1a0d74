package pci_test

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/pci"
)

// desk is a table of 67 vectors at 0x100 of BAR 1, with its pending bits at 0x40
// of BAR 2, and what it delivered.
type desk struct {
	*pci.MSIXTable
	got []string
}

func newDesk(t require.TestingT) *desk {
	d := &desk{}
	var err error
	d.MSIXTable, err = pci.NewMSIXTable(pci.MSIX{Vectors: 67, TableBAR: 1, TableOffset: 0x100, PBABAR: 2, PBAOffset: 0x40},
		func(v int, m pci.Message) { d.got = append(d.got, fmt.Sprintf("%d: %#x=%#x", v, m.Addr, m.Data)) })
	require.NoError(t, err)
	return d
}

// entry sets up a vector, its mask bit included.
func (d *desk) entry(v int, addr uint64, data, control uint32) {
	var p [16]byte
	binary.LittleEndian.PutUint64(p[0:], addr)
	binary.LittleEndian.PutUint32(p[8:], data)
	binary.LittleEndian.PutUint32(p[12:], control)
	d.Write(1, uint64(0x100+16*v), p[:])
}

// pba reads the pending bits.
func (d *desk) pba() [2]uint64 {
	var p [16]byte
	d.Read(2, 0x40, p[:])
	return [2]uint64{binary.LittleEndian.Uint64(p[:]), binary.LittleEndian.Uint64(p[8:])}
}

func (d *desk) take() []string {
	got := d.got
	d.got = nil
	return got
}

// One row for each sentence on masking, of a table whose vectors 0, 1 and 66 are
// set up and not masked.
func TestMSIXTable(t *testing.T) {
	const zero, one, last = "0: 0xfee00000=0x10", "1: 0x1fee00000=0x11", "66: 0xfee01000=0x12"
	for _, row := range []struct {
		name string
		do   func(d *desk)
		want []string
		pba  [2]uint64
	}{
		{"6.8.2.3: disabled: no message, nothing pending", func(d *desk) { d.Control(false, false); d.Trigger(0) }, nil, [2]uint64{}},
		{"6.8.2: enabled: the message of the vector", func(d *desk) { d.Trigger(1); d.Trigger(66); d.Trigger(0) }, []string{one, last, zero}, [2]uint64{}},
		{"6.8.2: each trigger is a message", func(d *desk) { d.Trigger(0); d.Trigger(0) }, []string{zero, zero}, [2]uint64{}},
		{"6.8.2.9: vectors are masked after a reset", func(d *desk) { d.Trigger(2) }, nil, [2]uint64{1 << 2, 0}},
		{"6.8.2.3: function mask: pending", func(d *desk) { d.Control(true, true); d.Trigger(0); d.Trigger(66) }, nil, [2]uint64{1, 1 << 2}},
		{"6.8.3.5: unmasking the function sends what is pending, once", func(d *desk) {
			d.Control(true, true)
			d.Trigger(0)
			d.Trigger(0)
			d.Trigger(66)
			d.Control(true, false)
			d.Control(true, false)
		}, []string{zero, last}, [2]uint64{}},
		{"6.8.3.5: unmasking a vector sends what is pending, once", func(d *desk) {
			d.Write(1, 0x10c, []byte{1})
			d.Trigger(0)
			d.Trigger(1)
			d.Write(1, 0x10c, []byte{0})
			d.Write(1, 0x10c, []byte{0})
		}, []string{one, zero}, [2]uint64{}},
		{"6.8.3.5: unmasking a vector of a masked function does not", func(d *desk) {
			d.Control(true, true)
			d.Trigger(0)
			d.Write(1, 0x10c, []byte{1})
			d.Write(1, 0x10c, []byte{0})
		}, nil, [2]uint64{1, 0}},
		{"6.8.3.5: the message is that of the time it is sent", func(d *desk) {
			d.Write(1, 0x10c, []byte{1})
			d.Trigger(0)
			d.entry(0, 0xfee02000, 0x99, 0)
		}, []string{"0: 0xfee02000=0x99"}, [2]uint64{}},
		{"what is pending outlives a time of being disabled", func(d *desk) {
			d.Control(true, true)
			d.Trigger(0)
			d.Control(false, false)
			d.Control(true, false)
		}, []string{zero}, [2]uint64{}},
		{"6.8.2.10: pending bits are read-only", func(d *desk) {
			d.Control(true, true)
			d.Trigger(0)
			d.Write(2, 0x40, make([]byte, 16))
			d.Write(2, 0x40, []byte{0xff})
		}, nil, [2]uint64{1, 0}},
		{"reset", func(d *desk) {
			d.Control(true, true)
			d.Trigger(0)
			d.Reset()
			d.Control(true, false)
			d.Trigger(1)
		}, nil, [2]uint64{1 << 1, 0}},
		{"vectors that do not exist", func(d *desk) { d.Trigger(-1); d.Trigger(67); d.Trigger(1 << 30) }, nil, [2]uint64{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := newDesk(t)
			d.Control(true, false)
			d.entry(0, 0xfee00003, 0x10, 0xfffffffe)
			d.entry(1, 0x1fee00000, 0x11, 0)
			d.entry(66, 0xfee01000, 0x12, 0)
			row.do(d)
			require.Equal(t, row.want, d.take())
			require.Equal(t, row.pba, d.pba())
		})
	}
}

// Accesses at every edge: what is not the table's is left alone.
func TestMSIXTableBytes(t *testing.T) {
	d := newDesk(t)
	p := make([]byte, 0x600)
	for i := range p {
		p[i] = 0xff
	}
	d.Write(1, 0, p)
	for i := range p {
		p[i] = 0xaa
	}
	d.Read(1, 0, p)
	for i, b := range p {
		want := byte(0xaa)
		if i >= 0x100 && i < 0x100+67*16 {
			want = [16]byte{0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}[i%16]
		}
		require.Equal(t, want, b, "%#x", i)
	}
	for _, row := range []struct {
		bar  int
		off  uint64
		n    int
		want bool
	}{
		{1, 0xff, 1, false}, {1, 0xff, 2, true}, {1, 0x100, 1, true}, {1, 0x100, 0, false}, {1, 0x52f, 1, true}, {1, 0x530, 1, false},
		{2, 0x3f, 1, false}, {2, 0x38, 16, true}, {2, 0x4f, 1, true}, {2, 0x50, 8, false},
		{0, 0x100, 16, false}, {3, 0x40, 8, false}, {1, ^uint64(0), 1, false}, {1, ^uint64(0), 1 << 20, false},
	} {
		require.Equal(t, row.want, d.Overlaps(row.bar, row.off, row.n), "%+v", row)
		q := make([]byte, min(row.n, 16))
		d.Read(row.bar, row.off, q)
		d.Write(row.bar, row.off, q)
	}
	require.Equal(t, pci.MSIX{Vectors: 67, TableBAR: 1, TableOffset: 0x100, PBABAR: 2, PBAOffset: 0x40}, d.Place())
	m, on := d.Message(66)
	require.Equal(t, pci.Message{Addr: 0xfffffffffffffffc, Data: 0xffffffff}, m)
	require.False(t, on)
	_, on = d.Message(67)
	require.False(t, on)
	_, err := pci.NewMSIXTable(pci.MSIX{Vectors: 2049}, nil)
	require.ErrorIs(t, err, errs.ErrInvalid)
	quiet, err := pci.NewMSIXTable(pci.MSIX{Vectors: 1, PBAOffset: 0x10}, nil)
	require.NoError(t, err)
	quiet.Control(true, false)
	quiet.Write(0, 0, make([]byte, 16))
	quiet.Trigger(0)
}

// The table against a model that keeps fields, not bytes.
func TestMSIXTableModel(t *testing.T) {
	type vector struct {
		addr            uint64
		data            uint32
		masked, pending bool
	}
	rapid.Check(t, func(t *rapid.T) {
		d := newDesk(t)
		var enabled, masked bool
		var vs [67]vector
		for i := range vs {
			vs[i].masked = true
		}
		var want []string
		send := func(v int) { want = append(want, fmt.Sprintf("%d: %#x=%#x", v, vs[v].addr, vs[v].data)) }
		settle := func() {
			for v := range vs {
				if vs[v].pending && enabled && !masked && !vs[v].masked {
					vs[v].pending = false
					send(v)
				}
			}
		}
		pick := rapid.SampledFrom([]int{0, 1, 63, 64, 66})
		t.Repeat(map[string]func(*rapid.T){
			"trigger": func(t *rapid.T) {
				v := pick.Draw(t, "vector")
				d.Trigger(v)
				switch {
				case !enabled:
				case masked || vs[v].masked:
					vs[v].pending = true
				default:
					send(v)
				}
			},
			"control": func(t *rapid.T) {
				enabled, masked = rapid.Bool().Draw(t, "enabled"), rapid.Bool().Draw(t, "masked")
				d.Control(enabled, masked)
				settle()
			},
			"write": func(t *rapid.T) {
				v, data := pick.Draw(t, "vector"), rapid.Uint32().Draw(t, "data")
				at := uint64(0x100 + 16*v)
				var p [4]byte
				binary.LittleEndian.PutUint32(p[:], data)
				switch field := rapid.IntRange(0, 3).Draw(t, "field"); field {
				case 0:
					vs[v].addr = vs[v].addr&^0xffffffff | uint64(data&^3)
					d.Write(1, at, p[:])
				case 1:
					vs[v].addr = vs[v].addr&0xffffffff | uint64(data)<<32
					d.Write(1, at+4, p[:])
				case 2:
					vs[v].data = data
					d.Write(1, at+8, p[:])
				case 3:
					vs[v].masked = data&1 != 0
					d.Write(1, at+12, p[:])
				}
				settle()
			},
			"move": func(t *rapid.T) { // to another table, as a migration does
				state := d.Append(nil)
				got := d.got
				d = newDesk(t)
				if err := d.Load(state); err != nil {
					t.Fatal(err)
				}
				if len(d.got) != 0 {
					t.Fatal("a disabled table sent a message")
				}
				d.Control(enabled, masked)
				d.got = append(got, d.got...)
				settle()
			},
			"": func(t *rapid.T) {
				require.Equal(t, want, d.got)
				var pba [2]uint64
				for v := range vs {
					if vs[v].pending {
						pba[v/64] |= 1 << (v % 64)
					}
				}
				require.Equal(t, pba, d.pba())
			},
		})
	})
}

// Bits that do not exist are not loaded.
func TestMSIXTableLoad(t *testing.T) {
	d := newDesk(t)
	state := d.Append(nil)
	require.ErrorIs(t, d.Load(state[1:]), errs.ErrInvalid)
	require.ErrorIs(t, d.Load(append(state, 0)), errs.ErrInvalid)
	for i := range state {
		state[i] = 0xff
	}
	require.NoError(t, d.Load(state))
	require.Equal(t, [2]uint64{^uint64(0), 7}, d.pba())
	var p [4]byte
	d.Read(1, 0x10c, p[:])
	require.Equal(t, [4]byte{1}, p)
}

// Triggers from many goroutines while software masks and unmasks: each is
// delivered, or joins one that is pending.
func TestMSIXTableConcurrently(t *testing.T) {
	var got atomic.Int64
	tab, err := pci.NewMSIXTable(pci.MSIX{Vectors: 2, PBAOffset: 0x20}, func(int, pci.Message) { got.Add(1) })
	require.NoError(t, err)
	tab.Control(true, false)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				tab.Trigger(1)
			}
		})
	}
	wg.Go(func() {
		for i := range 500 {
			tab.Write(0, 0x1c, []byte{byte(i) & 1})
			tab.Control(true, i&2 != 0)
		}
	})
	wg.Wait()
	tab.Write(0, 0x1c, []byte{0})
	tab.Control(true, false)
	require.Positive(t, got.Load())
	require.LessOrEqual(t, got.Load(), int64(2000))
	before := got.Load()
	tab.Trigger(1)
	require.Equal(t, before+1, got.Load(), "nothing is left pending")
}

func TestMSIXTableAllocs(t *testing.T) {
	tab, err := pci.NewMSIXTable(pci.MSIX{Vectors: 2048, PBAOffset: 0x8000}, nil)
	require.NoError(t, err)
	tab.Control(true, false)
	p := make([]byte, 16)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		tab.Write(0, 16*2047, p)
		tab.Trigger(2047)
		tab.Read(0, 0x8000, p)
	}))
}

func BenchmarkTrigger(b *testing.B) {
	tab, err := pci.NewMSIXTable(pci.MSIX{Vectors: 4, PBAOffset: 0x800}, nil)
	require.NoError(b, err)
	tab.Control(true, false)
	tab.Write(0, 0, make([]byte, 16))
	b.ReportAllocs()
	for b.Loop() {
		tab.Trigger(0)
	}
}
