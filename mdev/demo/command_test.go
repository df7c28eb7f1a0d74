package demo_test

import (
	"bytes"
	"hash/crc32"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Each command, at every edge, over every kind of memory: memory afterwards is
// what the same on a slice makes of it, and the engine was refused nothing.
func TestCommands(t *testing.T) {
	const most = demo.MaxLen
	rows := []struct {
		name     string
		op       uint32
		src, dst int // offsets in memory
		length   int
	}{
		{"copy a byte", demo.CommandCopy, 0, 1, 1},
		{"copy a page", demo.CommandCopy, 0, 8192, 4096},
		{"copy over page boundaries", demo.CommandCopy, 4095, 9001, 4098},
		{"copy the most, unaligned", demo.CommandCopy, 3, 2<<20 + 1, most},
		{"copy the first to the last", demo.CommandCopy, 0, ramSize - 100, 100},
		{"copy onto itself", demo.CommandCopy, 777, 777, 5000},
		{"copy forward over itself", demo.CommandCopy, 100, 101, 200000},
		{"copy back over itself", demo.CommandCopy, 101, 100, 200000},
		{"fill a byte", demo.CommandFill, 0, 4095, 1},
		{"fill the most", demo.CommandFill, 0, ramSize - most, most},
		{"checksum a byte", demo.CommandChecksum, 8191, 0, 1},
		{"checksum the most", demo.CommandChecksum, 12345, 0, most},
	}
	each(t, func(t *testing.T, r *rig) {
		for i, row := range rows {
			want := bytes.Clone(r.ram)
			src := bytes.Clone(want[row.src : row.src+row.length])
			c := cmd{
				op: row.op, length: uint32(row.length), value: 0x12345600 | uint32(i), vector: uint32(i % demo.Vectors),
				src: base + addr.IOVA(row.src), dst: base + addr.IOVA(row.dst),
			}
			require.Zero(t, r.do(c), row.name)
			value := c.value
			switch row.op {
			case demo.CommandCopy:
				copy(want[row.dst:], src)
			case demo.CommandFill:
				copy(want[row.dst:row.dst+row.length], bytes.Repeat([]byte{byte(i)}, row.length))
			case demo.CommandChecksum:
				value = crc32.ChecksumIEEE(src)
			}
			require.Equal(t, value, r.read(demo.RegValue), row.name)
			require.True(t, bytes.Equal(want, r.ram), row.name)
			require.Zero(t, r.Pinner().Charged(), row.name)
		}
		require.Zero(t, r.dev.Domain().FaultCount())
		r.silent()
	})
}

// raise is nothing but the interrupt: it needs no memory and no mastering.
func TestRaise(t *testing.T) {
	r := newRig(t, nil)
	r.master(false)
	for _, v := range []uint32{0, 1, 2, 3, 3, 0} {
		require.Zero(t, r.do(cmd{op: demo.CommandRaise, vector: v}))
	}
	require.Zero(t, r.do(cmd{op: demo.CommandRaise, vector: 0xffffffff}), "VECTOR has two bits")
	require.EqualValues(t, 3, r.read(demo.RegVector))
	require.Equal(t, []uint64{2, 1, 1, 3}, r.IRQs().Counts()[mdev.IRQMSIX])
	r.silent()
}

// A byte of COMMAND alone is a command, of which the rest is 0.
func TestCommandByBytes(t *testing.T) {
	r := newRig(t, nil)
	r.write(demo.RegCommand, 1, demo.CommandRaise)
	r.interrupted(0)
	require.Zero(t, r.read(demo.RegStatus))
	r.write(demo.RegCommand+1, 1, demo.CommandRaise)
	r.interrupted(0)
	require.Equal(t, status(syscall.EINVAL), r.read(demo.RegStatus))
	r.write(demo.RegCommand-4, 8, demo.CommandRaise<<32|2) // VECTOR and COMMAND as one
	r.interrupted(2)
	require.Zero(t, r.read(demo.RegCommand))
}

// status is what STATUS says of an error.
func status(e syscall.Errno) uint32 {
	return demo.StatusError | uint32(e)<<demo.StatusErrnoShift
}

// What a guest may do wrong: one row for each line of the table of doc.go. The
// error is in STATUS, the interrupt comes, memory is as it was, and the device
// goes on.
func TestErrors(t *testing.T) {
	const (
		readOnly = base + ramSize          // 64 KiB that may be read
		hole     = base + ramSize + 64<<10 // nothing
		short    = addr.IOVA(1) << 40      // 64 KiB, of which the client serves the first 4096 bytes
	)
	for _, row := range []struct {
		name  string
		c     cmd
		errno syscall.Errno
	}{
		{"no command 0", cmd{op: 0, length: 1, src: base, dst: base}, syscall.EINVAL},
		{"no command 5", cmd{op: 5, length: 1, src: base, dst: base}, syscall.EINVAL},
		{"no command 0x101", cmd{op: 0x101, length: 1, src: base, dst: base}, syscall.EINVAL},
		{"no command 2^32-1", cmd{op: 0xffffffff, length: 1, src: base, dst: base}, syscall.EINVAL},
		{"length 0", cmd{op: demo.CommandFill, dst: base}, syscall.EINVAL},
		{"length 1 MiB + 1", cmd{op: demo.CommandFill, dst: base, length: demo.MaxLen + 1}, syscall.EINVAL},
		{"length 2^32-1", cmd{op: demo.CommandCopy, src: base, dst: base, length: 0xffffffff}, syscall.EINVAL},
		{"source not mapped", cmd{op: demo.CommandCopy, src: hole, dst: base, length: 1}, syscall.EINVAL},
		{"source partly mapped", cmd{op: demo.CommandCopy, src: hole - 100, dst: base, length: 101}, syscall.EINVAL},
		{"destination not mapped", cmd{op: demo.CommandCopy, src: base, dst: hole, length: 1}, syscall.EINVAL},
		{"destination partly mapped", cmd{op: demo.CommandFill, dst: base - 1, length: 100}, syscall.EINVAL},
		{"nothing mapped to sum", cmd{op: demo.CommandChecksum, src: 0, length: 64}, syscall.EINVAL},
		{"source passes 2^64", cmd{op: demo.CommandCopy, src: ^addr.IOVA(0) - 62, dst: base, length: 128}, syscall.EOVERFLOW},
		{"destination passes 2^64", cmd{op: demo.CommandFill, dst: ^addr.IOVA(0), length: 2}, syscall.EOVERFLOW},
		{"source ends at 2^64", cmd{op: demo.CommandCopy, src: ^addr.IOVA(0) - 63, dst: base, length: 64}, syscall.EINVAL},
		{"destination is read-only", cmd{op: demo.CommandFill, dst: readOnly, length: 1}, syscall.EPERM},
		{"destination becomes read-only", cmd{op: demo.CommandCopy, src: base, dst: readOnly - 1, length: 2}, syscall.EPERM},
		{"source that the client does not serve", cmd{op: demo.CommandCopy, src: short + 4096, dst: base, length: 1}, syscall.EFAULT},
		{"destination that the client does not serve", cmd{op: demo.CommandFill, dst: short + 4096, length: 1}, syscall.EFAULT},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := withRAM(t)
			require.NoError(t, r.Map(readOnly, 64<<10, translate.Bytes(make([]byte, 64<<10)), addr.Read))
			require.NoError(t, r.Map(short, 64<<10, translate.Remote(newRemote(make([]byte, 4096))), addr.ReadWrite))
			before := bytes.Clone(r.ram)
			require.Equal(t, status(row.errno), r.do(row.c))
			require.True(t, bytes.Equal(before, r.ram))
			require.Zero(t, r.Pinner().Charged())
			require.Zero(t, r.do(cmd{op: demo.CommandChecksum, src: readOnly, length: 64 << 10, vector: 3}), "reading it is fine")
			require.Equal(t, crc32.ChecksumIEEE(make([]byte, 64<<10)), r.read(demo.RegValue))
			require.Equal(t, map[string]float64{"commands": 2, "rejected: " + row.errno.Error(): 1}, r.report())
			r.silent()
		})
	}
}

// report is what the device tells of itself.
func (r *rig) report() map[string]float64 {
	all := make(map[string]float64)
	for _, m := range r.Stats().Device {
		name := m.Name
		for _, l := range m.Labels {
			require.Equal(r, "reason", l.Name)
			name += ": " + l.Value
		}
		all[name] = m.Value
	}
	return all
}

// A pin takes no more access than the command has use for: memory that may only
// be read can be copied from, and memory that may only be written to copied to.
func TestLeastAccess(t *testing.T) {
	r := newRig(t, nil)
	src, dst := noise(64<<10), make([]byte, 64<<10)
	require.NoError(t, r.Map(0, 64<<10, translate.Bytes(src), addr.Read))
	require.NoError(t, r.Map(1<<20, 64<<10, translate.Bytes(dst), addr.Write))
	require.Zero(t, r.do(cmd{op: demo.CommandCopy, src: 0, dst: 1 << 20, length: 64 << 10}))
	require.True(t, bytes.Equal(src, dst))
	require.Zero(t, r.do(cmd{op: demo.CommandFill, dst: 1 << 20, length: 1}))
	require.Zero(t, r.do(cmd{op: demo.CommandChecksum, src: 0, length: 1}))
	require.Equal(t, status(syscall.EPERM), r.do(cmd{op: demo.CommandChecksum, src: 1 << 20, length: 1}))
	require.Equal(t, status(syscall.EPERM), r.do(cmd{op: demo.CommandCopy, src: 1 << 20, dst: 1 << 20, length: 1}))
}

// Without bus mastering, and asleep, the device reaches no memory, and says so.
func TestMaster(t *testing.T) {
	r := withRAM(t)
	fill := cmd{op: demo.CommandFill, dst: base, length: 1, value: uint32(r.ram[0]) + 1, vector: 1}
	before := r.ram[0]
	r.master(false)
	require.Equal(t, status(syscall.EPERM), r.do(fill))
	r.master(true)
	power := uint64(r.dev.Space.Find(1) + 4)
	require.NoError(t, r.Write(r.ctx, mdev.Config, power, []byte{3}))
	require.Equal(t, status(syscall.EPERM), r.do(fill))
	require.Equal(t, before, r.ram[0])
	require.NoError(t, r.Write(r.ctx, mdev.Config, power, []byte{0}))
	require.Zero(t, r.do(fill))
	require.Equal(t, before+1, r.ram[0])
}

// Commands take their parameters with them, and end in their order.
func TestQueue(t *testing.T) {
	r, m := stuck(t)
	require.EqualValues(t, demo.StatusBusy, r.read(demo.RegStatus))
	require.True(t, r.pending())
	for i := range uint32(demo.MaxQueue) {
		r.ring(cmd{op: demo.CommandFill, dst: base + 3<<20 + addr.IOVA(i), length: 2, value: i, vector: 1})
	}
	require.Zero(t, r.read(demo.RegCompleted))
	r.silent()
	m.open()
	r.interrupted(0)
	for range demo.MaxQueue {
		r.interrupted(1)
	}
	require.Zero(t, r.read(demo.RegStatus))
	require.EqualValues(t, demo.MaxQueue+1, r.read(demo.RegCompleted))
	require.Equal(t, []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 15}, r.ram[3<<20:3<<20+17])
	require.True(t, bytes.Equal(r.ram[:1<<20], r.ram[1<<20:2<<20]))
}

// What finds the queue full is refused, counted at once, and told of.
func TestQueueFull(t *testing.T) {
	r, m := stuck(t)
	for range demo.MaxQueue {
		r.ring(cmd{op: demo.CommandRaise, vector: 1})
	}
	for range 3 {
		r.ring(cmd{op: demo.CommandRaise, vector: 2})
	}
	r.ring(cmd{op: demo.CommandRaise, vector: 3})
	require.EqualValues(t, 4, r.read(demo.RegCompleted))
	require.Equal(t, status(syscall.EBUSY)|demo.StatusBusy, r.read(demo.RegStatus))
	r.silent()
	m.open()
	r.interrupted(0)
	r.interrupted(2)
	r.interrupted(3)
	for range demo.MaxQueue {
		r.interrupted(1)
	}
	r.silent() // three of one vector are one message
	require.Zero(t, r.read(demo.RegStatus))
	require.EqualValues(t, 4+1+demo.MaxQueue, r.read(demo.RegCompleted))
	require.EqualValues(t, 4, r.report()["rejected: "+syscall.EBUSY.Error()])
}

// An interrupt handler may ring again.
func TestHandlerRings(t *testing.T) {
	r := newRig(t, nil)
	n := 0
	done := make(chan struct{})
	require.NoError(t, r.IRQs().Func(mdev.IRQMSIX, 0, func() {
		if n++; n == 100 {
			close(done)
			return
		}
		require.EqualValues(t, n, r.read(demo.RegCompleted))
		r.write(demo.RegCommand, 4, demo.CommandRaise)
	}))
	r.write(demo.RegCommand, 4, demo.CommandRaise)
	<-done
}

// Registers answer as the table says, whatever is written to them.
func TestRegisters(t *testing.T) {
	r := newRig(t, nil)
	var id [4]byte
	require.NoError(t, r.Read(r.ctx, mdev.BAR0, demo.RegID, id[:]))
	require.Equal(t, "demo", string(id[:]))
	require.EqualValues(t, demo.IDValue, r.read(demo.RegID))
	require.EqualValues(t, demo.VersionValue, r.read(demo.RegVersion))
	for _, off := range []uint64{demo.RegID, demo.RegVersion, demo.RegStatus, demo.RegCompleted, 0x38, 0xffc} {
		before := r.read(off)
		r.write(off, 4, 0xffffffff)
		require.Equal(t, before, r.read(off), "%#x", off)
	}
	for _, off := range []uint64{demo.RegScratch, demo.RegCounter, demo.RegLen, demo.RegValue, demo.RegSrc, demo.RegSrc + 4} {
		r.write(off, 4, 0x89abcdef)
		r.write(off+1, 2, 0x1234)
		require.Equal(t, uint32(0x891234ef), r.read(off), "%#x", off)
	}
	for i := range uint32(1000) {
		r.write(demo.RegCounter, 4, uint64(i))
	}
	require.EqualValues(t, 999, r.read(demo.RegCounter))
}
