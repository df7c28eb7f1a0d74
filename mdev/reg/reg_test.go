package reg_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/reg"
	"github.com/softmdev/softmdev/mdev/reg/regtest"
)

// table has a register of each width and a bit of each kind.
var table = []reg.Reg{
	{Offset: 0x00, Width: 4, Name: "ID", Reset: 0x12345678},
	{Offset: 0x04, Width: 2, Name: "control", Reset: 0x0004, Write: 0x0f0f, Order: 0x8000, Live: 0x0010},
	{Offset: 0x06, Width: 2, Name: "status", W1C: 0xf000, Live: 0x0003, Sticky: 0x1000},
	{Offset: 0x09, Width: 1, Name: "byte", Reset: 0x80, Write: 0x7f, Keep: 0x07},
	{Offset: 0x10, Width: 8, Name: "address", Write: 0x0000fffffffff000, Reset: 0x7},
}

func TestTable(t *testing.T) {
	regtest.Documented(t, "example_test.go", table)
	for i := range table {
		other := slices.Clone(table)
		other[i].Reset ^= 1 << (8*other[i].Width - 1)
		require.False(t, regtest.Has("//\t"+strings.ReplaceAll(reg.Table(other), "\n", "\n//\t"), table))
	}
}

// What New refuses, by name.
func TestNew(t *testing.T) {
	for name, row := range map[string]struct {
		regs []reg.Reg
		err  error
		text string
	}{
		"no width":               {[]reg.Reg{{Name: "x"}}, errs.ErrInvalid, `register "x" at 0x0: width of 0 bytes: invalid argument`},
		"three bytes":            {[]reg.Reg{{Name: "x", Width: 3}}, errs.ErrInvalid, ""},
		"sixteen bytes":          {[]reg.Reg{{Name: "x", Width: 16}}, errs.ErrInvalid, ""},
		"misaligned":             {[]reg.Reg{{Name: "x", Width: 4, Offset: 2}}, errs.ErrMisaligned, `register "x" at 0x2: width of 4 bytes: misaligned`},
		"behind the end":         {[]reg.Reg{{Name: "x", Width: 4, Offset: 0x20}}, errs.ErrOutsideRange, `register "x" at 0x20: behind the end at 0x20: outside the valid ranges`},
		"half behind the end":    {[]reg.Reg{{Name: "x", Width: 8, Offset: 0x1c}}, errs.ErrMisaligned, ""},
		"far behind the end":     {[]reg.Reg{{Name: "x", Width: 4, Offset: 0xfffffffc}}, errs.ErrOutsideRange, ""},
		"reset of 9 bits":        {[]reg.Reg{{Name: "x", Width: 1, Reset: 0x100}}, errs.ErrInvalid, ""},
		"mask of 33 bits":        {[]reg.Reg{{Name: "x", Width: 4, Sticky: 1 << 32}}, errs.ErrInvalid, ""},
		"order that reads as 1":  {[]reg.Reg{{Name: "x", Width: 1, Reset: 3, Order: 2}}, errs.ErrInvalid, ""},
		"W1C that is writable":   {[]reg.Reg{{Name: "x", Width: 1, W1C: 3, Write: 2}}, errs.ErrInvalid, ""},
		"order that is writable": {[]reg.Reg{{Name: "x", Width: 1, Order: 3, Write: 2}}, errs.ErrInvalid, ""},
		"live that is W1C":       {[]reg.Reg{{Name: "x", Width: 1, Live: 3, W1C: 2}}, errs.ErrInvalid, ""},
		"twice":                  {[]reg.Reg{{Name: "x", Width: 4}, {Name: "y", Width: 4}}, errs.ErrExists, `registers "x" and "y" at 0x0: already exists`},
		"overlap":                {[]reg.Reg{{Name: "y", Width: 1, Offset: 7}, {Name: "x", Width: 8}}, errs.ErrExists, `registers "x" and "y" at 0x7: already exists`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := reg.New(0x20, row.regs, nil)
			require.ErrorIs(t, err, row.err)
			if row.text != "" {
				require.EqualError(t, err, row.text)
			}
		})
	}
	for _, size := range []uint32{0, 7, reg.MaxSize + 1, ^uint32(0)} {
		_, err := reg.New(size, nil, nil)
		require.ErrorIs(t, err, errs.ErrInvalid)
	}
	require.Panics(t, func() { reg.MustNew(0, nil, nil) })
	b := reg.MustNew(8, nil, nil)
	p := []byte{1, 2, 3}
	require.NoError(t, b.Write(5, p))
	require.NoError(t, b.Read(5, p))
	require.Equal(t, []byte{0, 0, 0}, p, "no register there")
}

// Accesses that leave the block do nothing.
func TestBounds(t *testing.T) {
	calls := 0
	b, err := reg.New(0x20, table, func(reg.Write) { calls++ })
	require.NoError(t, err)
	before := b.Append(nil)
	for _, row := range []struct {
		off uint64
		n   int
	}{{0x20, 1}, {0x1d, 4}, {0, 0x21}, {1 << 32, 4}, {^uint64(0), 1}, {^uint64(0) - 3, 8}} {
		p := make([]byte, row.n)
		require.ErrorIs(t, b.Read(row.off, p), errs.ErrInvalid, "%+v", row)
		require.ErrorIs(t, b.Write(row.off, p), errs.ErrInvalid, "%+v", row)
	}
	for _, off := range []uint64{0, 0x20} {
		require.NoError(t, b.Read(off, nil))
		require.NoError(t, b.Write(off, nil))
	}
	require.Zero(t, calls)
	require.Equal(t, before, b.Append(nil))
	require.EqualValues(t, 0x20, b.Size())
}

// The device is told of each register once, in order, with its value before
// and after.
func TestWritten(t *testing.T) {
	var got []reg.Write
	b, err := reg.New(0x20, table, func(w reg.Write) { got = append(got, w) })
	require.NoError(t, err)
	b.Put(0x06, 0xf003)
	require.Empty(t, got, "what the device does it knows")
	require.NoError(t, b.Write(0x05, []byte{0x85, 0xff, 0x30, 0xaa, 0xff}))
	require.Len(t, got, 3)
	require.Equal(t, "control", got[0].Reg.Name)
	require.Equal(t, reg.Write{Reg: got[0].Reg, Old: 0x0004, New: 0x0504, Data: 0x8500, Mask: 0xff00}, got[0])
	require.EqualValues(t, 0x8000, got[0].Order())
	require.Equal(t, reg.Write{Reg: got[1].Reg, Old: 0xf003, New: 0xc003, Data: 0x30ff, Mask: 0xffff}, got[1])
	require.Equal(t, reg.Write{Reg: got[2].Reg, Old: 0x80, New: 0xff, Data: 0xff, Mask: 0xff}, got[2])
}

// What is left by each kind of reset.
func TestReset(t *testing.T) {
	for kind, want := range map[reg.ResetKind][2]uint64{
		reg.PowerOn:      {0x0000, 0x80},
		reg.Conventional: {0x1000, 0x80},
		reg.Function:     {0x1000, 0x87},
	} {
		b, err := reg.New(0x20, table, nil)
		require.NoError(t, err)
		require.NoError(t, b.Write(0x04, []byte{0xff, 0xff}))
		require.NoError(t, b.Write(0x09, []byte{0xff}))
		b.Put(0x04, ^uint64(0))
		b.Put(0x06, ^uint64(0))
		b.Put(0x00, ^uint64(0))
		require.EqualValues(t, 0x0f1f, b.Get(0x04))
		require.EqualValues(t, 0xf003, b.Get(0x06))
		require.EqualValues(t, 0x12345678, b.Get(0x00), "never changes")
		b.Reset(kind)
		require.EqualValues(t, 0x0004, b.Get(0x04))
		require.Equal(t, want[0], b.Get(0x06))
		require.Equal(t, want[1], b.Get(0x09))
	}
}

// What Append says, Load takes; what nobody may change it does not.
func TestLoad(t *testing.T) {
	a, err := reg.New(0x20, table, nil)
	require.NoError(t, err)
	require.NoError(t, a.Write(0, make([]byte, 0x20)))
	a.Put(0x06, 0x3002)
	state := a.Append(nil)
	b, err := reg.New(0x20, table, nil)
	require.NoError(t, err)
	require.NoError(t, b.Load(state))
	require.Equal(t, state, b.Append(nil))
	for i := range state {
		state[i] = 0xff
	}
	require.NoError(t, b.Load(state))
	require.EqualValues(t, 0x12345678, b.Get(0x00))
	require.EqualValues(t, 0x0f1f, b.Get(0x04), "no order")
	require.ErrorIs(t, b.Load(state[1:]), errs.ErrInvalid)
	require.ErrorIs(t, b.Load(append(state, 0)), errs.ErrInvalid)
}

// A register that is none is a mistake of the device's author.
func TestGetOfNothing(t *testing.T) {
	b, err := reg.New(0x20, table, nil)
	require.NoError(t, err)
	for _, off := range []uint32{0x01, 0x0a, 0x18, 0x20, ^uint32(0)} {
		require.Panics(t, func() { b.Get(off) }, "%#x", off)
		require.Panics(t, func() { b.Put(off, 0) }, "%#x", off)
	}
}

// Accesses allocate nothing.
func TestAllocs(t *testing.T) {
	var sum uint64
	b, err := reg.New(0x20, table, func(w reg.Write) { sum += w.New })
	require.NoError(t, err)
	p := make([]byte, 8)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_ = b.Write(0x04, p)
		_ = b.Read(0x10, p)
		b.Put(0x06, b.Get(0x06)+1)
	}))
	require.NotZero(t, sum)
}

func BenchmarkWrite4(b *testing.B) {
	bank, err := reg.New(0x20, table, func(reg.Write) {})
	require.NoError(b, err)
	p := make([]byte, 4)
	b.ReportAllocs()
	for b.Loop() {
		_ = bank.Write(0x04, p)
	}
}

// A locked bank is the bank with the lock held.
func TestLocked(t *testing.T) {
	var mu sync.Mutex
	b, err := reg.New(0x20, table, func(reg.Write) { require.False(t, mu.TryLock()) })
	require.NoError(t, err)
	l := reg.Locked{Lock: &mu, Bank: b}
	n, err := l.WriteAt([]byte{1, 2}, 0x04)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	p := make([]byte, 4)
	n, err = l.ReadAt(p, 0x02)
	require.NoError(t, err)
	require.Equal(t, 4, n)
	require.Equal(t, []byte{0x34, 0x12, 0x01, 0x02}, p)
	for _, off := range []int64{0x1f, -1} {
		_, err = l.ReadAt(p, off)
		require.ErrorIs(t, err, errs.ErrInvalid)
		_, err = l.WriteAt(p, off)
		require.ErrorIs(t, err, errs.ErrInvalid)
	}
	require.True(t, mu.TryLock())
}
