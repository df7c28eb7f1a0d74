package engine_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/demo/engine"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// bench is an engine with a program's frames, which it may read, memory that it
// may read and write, and memory that it may only read.
type bench struct {
	*engine.Engine
	domain         *iommu.Domain
	prog, mem, rom *iommu.Frames
	steps          []int
	stop           int // step that fails, from 1; 0 for none
}

var errStop = errors.New("stopped")

var pattern = sync.OnceValue(func() []byte {
	p := make([]byte, 4<<20)
	for i := range p {
		p[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return p
})

func newBench(t testing.TB) *bench {
	space := iommu.NewSpace(nil)
	b := &bench{domain: space.NewDomain("engine")}
	for _, x := range []struct {
		f      **iommu.Frames
		n      addr.Len
		access addr.Access
	}{{&b.prog, addr.Len(engine.MaxProgram), addr.Read}, {&b.mem, 4 << 20, addr.ReadWrite}, {&b.rom, 1 << 20, addr.Read}} {
		f, err := space.Alloc(x.n, 0)
		require.NoError(t, err)
		require.NoError(t, b.domain.GrantFrames(f, x.access))
		*x.f = f
	}
	copy(b.mem.Mem, pattern())
	b.Engine = engine.New(b.domain)
	return b
}

func (b *bench) step(n int) error {
	if b.steps = append(b.steps, n); len(b.steps) == b.stop {
		return errStop
	}
	return nil
}

func free(int) error { return nil }

// seg is a segment of mem.
func (b *bench) seg(off, n int) engine.Segment {
	return engine.Segment{HPA: b.mem.HPA + addr.HPA(off), Len: addr.Len(n)}
}

func (b *bench) run(t testing.TB, p engine.Program) (uint32, error) {
	require.NoError(t, p.Encode(b.prog.Mem))
	b.steps = nil
	return b.Run(b.prog.HPA, b.step)
}

type segs = []engine.Segment

// What programs do, whole.
func TestPrograms(t *testing.T) {
	const chunk, most = engine.Chunk, engine.MaxBytes
	for _, row := range []struct {
		name     string
		op       engine.Op
		value    uint32
		src, dst [][2]int // offset and length in mem
		steps    []int
	}{
		{"copy a byte", engine.Copy, 0, [][2]int{{1, 1}}, [][2]int{{5000, 1}}, []int{1, 1}},
		{"copy over page boundaries", engine.Copy, 0, [][2]int{{4000, 5000}}, [][2]int{{20001, 5000}}, []int{5000, 5000}},
		{"copy: lists cut differently", engine.Copy, 0, [][2]int{{0, 10}, {100, 20}, {50, 1}}, [][2]int{{8000, 30}, {9000, 1}}, []int{10, 20, 1, 30, 1}},
		{"copy onto itself", engine.Copy, 0, [][2]int{{64, 4096}}, [][2]int{{64, 4096}}, []int{4096, 4096}},
		{"copy forward over itself", engine.Copy, 0, [][2]int{{0, 3 * chunk}}, [][2]int{{1, 3 * chunk}}, []int{chunk, chunk, chunk, chunk, chunk, chunk}},
		{"copy back over itself", engine.Copy, 0, [][2]int{{1, 3 * chunk}}, [][2]int{{0, 3 * chunk}}, []int{chunk, chunk, chunk, chunk, chunk, chunk}},
		{"copy the most", engine.Copy, 0, [][2]int{{3, most}}, [][2]int{{2<<20 + 1, most}}, nil},
		{"fill", engine.Fill, 0x1234567a, nil, [][2]int{{4095, 2}, {9000, 100}}, []int{2, 100}},
		{"fill: chunks", engine.Fill, 0, nil, [][2]int{{0, chunk + 1}}, []int{chunk, 1}},
		{"checksum", engine.Checksum, 9, [][2]int{{0, 100}, {4000, 200}}, nil, []int{100, 200}},
		{"checksum of the most", engine.Checksum, 0, [][2]int{{0, most - 1}, {5, 1}}, nil, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t)
			want := bytes.Clone(b.mem.Mem)
			p := engine.Program{Op: row.op, Value: row.value}
			var data []byte
			for _, s := range row.src {
				p.Src = append(p.Src, b.seg(s[0], s[1]))
				data = append(data, b.mem.Mem[s[0]:s[0]+s[1]]...)
			}
			sum := crc32.ChecksumIEEE(data)
			for _, s := range row.dst {
				p.Dst = append(p.Dst, b.seg(s[0], s[1]))
				if row.op == engine.Fill {
					copy(want[s[0]:s[0]+s[1]], bytes.Repeat([]byte{byte(row.value)}, s[1]))
				} else {
					data = data[copy(want[s[0]:s[0]+s[1]], data):]
				}
			}
			result, err := b.run(t, p)
			require.NoError(t, err)
			if row.op == engine.Checksum {
				require.Equal(t, sum, result)
			} else {
				require.Zero(t, result)
			}
			require.True(t, bytes.Equal(want, b.mem.Mem))
			if row.steps != nil {
				require.Equal(t, row.steps, b.steps)
			}
			require.Zero(t, b.domain.FaultCount())
		})
	}
}

// What is refused, before anything moves.
func TestRefused(t *testing.T) {
	many := make(segs, engine.MaxSegments+1)
	for _, row := range []struct {
		name string
		prog func(b *bench) engine.Program
		err  error
		text string
	}{
		{"no operation", func(b *bench) engine.Program { return engine.Program{Src: segs{b.seg(0, 1)}} }, errs.ErrInvalid, "program: operation 0 on 1 and 0 bytes: invalid argument"},
		{"operation 4", func(b *bench) engine.Program { return engine.Program{Op: 4, Src: segs{b.seg(0, 1)}} }, errs.ErrInvalid, ""},
		{"copy nothing", func(b *bench) engine.Program { return engine.Program{Op: engine.Copy} }, errs.ErrInvalid, "program: operation 1 on 0 and 0 bytes: invalid argument"},
		{"copy to less", func(b *bench) engine.Program {
			return engine.Program{Op: engine.Copy, Src: segs{b.seg(0, 2)}, Dst: segs{b.seg(8, 1)}}
		}, errs.ErrInvalid, "program: operation 1 on 2 and 1 bytes: invalid argument"},
		{"fill that reads", func(b *bench) engine.Program {
			return engine.Program{Op: engine.Fill, Src: segs{b.seg(0, 2)}, Dst: segs{b.seg(8, 2)}}
		}, errs.ErrInvalid, ""},
		{"fill nothing", func(b *bench) engine.Program { return engine.Program{Op: engine.Fill} }, errs.ErrInvalid, ""},
		{"checksum that writes", func(b *bench) engine.Program {
			return engine.Program{Op: engine.Checksum, Src: segs{b.seg(0, 2)}, Dst: segs{b.seg(8, 2)}}
		}, errs.ErrInvalid, ""},
		{"a segment of nothing", func(b *bench) engine.Program {
			return engine.Program{Op: engine.Checksum, Src: segs{b.seg(0, 2), b.seg(4, 0)}}
		}, errs.ErrInvalid, "program: source: segment 1: 0 bytes after 2: invalid argument"},
		{"one byte too many", func(b *bench) engine.Program {
			return engine.Program{Op: engine.Fill, Dst: segs{b.seg(0, engine.MaxBytes), b.seg(0, 1)}}
		}, errs.ErrInvalid, "program: destination: segment 1: 1 bytes after 1048576: invalid argument"},
		{"a sum that wraps", func(b *bench) engine.Program {
			return engine.Program{Op: engine.Checksum, Src: segs{b.seg(0, 2), {Len: ^addr.Len(0)}}}
		}, errs.ErrInvalid, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t)
			before := bytes.Clone(b.mem.Mem)
			_, err := b.run(t, row.prog(b))
			require.ErrorIs(t, err, row.err)
			if row.text != "" {
				require.EqualError(t, err, row.text)
			}
			require.True(t, bytes.Equal(before, b.mem.Mem))
			require.Empty(t, b.steps)
		})
	}
	var mem [engine.MaxProgram]byte
	require.ErrorIs(t, (&engine.Program{Src: many}).Encode(mem[:]), errs.ErrNoSpace)
	require.ErrorIs(t, (&engine.Program{Dst: many}).Encode(mem[:]), errs.ErrNoSpace)
	require.ErrorIs(t, (&engine.Program{Src: many[1:], Dst: many[1:]}).Encode(mem[1:]), errs.ErrNoSpace)
	require.NoError(t, (&engine.Program{Src: many[1:], Dst: many[1:]}).Encode(mem[:]))
	b := newBench(t)
	for _, at := range []int{8, 12} { // more segments than Encode would write
		require.NoError(t, (&engine.Program{Op: engine.Fill, Dst: segs{b.seg(0, 1)}}).Encode(b.prog.Mem))
		binary.LittleEndian.PutUint32(b.prog.Mem[at:], uint32(engine.MaxSegments)+1)
		_, err := b.Run(b.prog.HPA, b.step)
		require.ErrorIs(t, err, errs.ErrInvalid)
	}
}

// Memory that the engine does not reach, and steps that fail: where it stands,
// and what has moved.
func TestFaults(t *testing.T) {
	b := newBench(t)
	before := bytes.Clone(b.mem.Mem)
	_, err := b.Run(0x1000, b.step)
	require.ErrorIs(t, err, errs.ErrReach)
	require.EqualError(t, err, "program: hpa 0x1000: outside the device's reach")
	binary.LittleEndian.PutUint32(b.rom.Mem[len(b.rom.Mem)-16+8:], 1) // a list behind all frames
	_, err = b.Run(b.rom.HPA+addr.HPA(len(b.rom.Mem)-16), b.step)
	require.ErrorIs(t, err, errs.ErrReach)

	away := engine.Segment{HPA: 1 << 50, Len: 8}
	_, err = b.run(t, engine.Program{Op: engine.Copy, Src: segs{b.seg(0, 8), away}, Dst: segs{b.seg(100, 16)}})
	require.EqualError(t, err, "source: segment 1: hpa 0x4000000000000: outside the device's reach")
	require.True(t, bytes.Equal(before, b.mem.Mem), "the destination is as it was")

	_, err = b.run(t, engine.Program{Op: engine.Fill, Dst: segs{{HPA: b.rom.HPA, Len: 8}}})
	require.ErrorIs(t, err, errs.ErrPermission)
	require.ErrorContains(t, err, "destination: segment 0: hpa")
	require.EqualValues(t, 4, b.domain.FaultCount(), "each was logged")

	for stop := 1; ; stop++ {
		b.stop = stop
		_, err = b.run(t, engine.Program{Op: engine.Copy, Src: segs{b.seg(0, 3*engine.Chunk)}, Dst: segs{b.seg(1<<20, 3*engine.Chunk)}})
		if err == nil {
			require.Equal(t, 7, stop)
			break
		}
		require.ErrorIs(t, err, errStop)
		moved := max(0, stop-4) * engine.Chunk
		require.True(t, bytes.Equal(b.mem.Mem[:moved], b.mem.Mem[1<<20:][:moved]))
		require.True(t, bytes.Equal(before[1<<20+moved:], b.mem.Mem[1<<20+moved:]), "nothing after the step that failed")
	}
}

func TestAllocs(t *testing.T) {
	b := newBench(t)
	e := engine.New(b.domain)
	p := engine.Program{Op: engine.Copy, Src: segs{b.seg(0, 4096), b.seg(9000, 10)}, Dst: segs{b.seg(1<<20, 4106)}}
	require.NoError(t, p.Encode(b.prog.Mem))
	require.Zero(t, testing.AllocsPerRun(20, func() {
		if _, err := e.Run(b.prog.HPA, free); err != nil {
			t.Fatal(err)
		}
	}))
}

// FuzzRun's oracle: whatever bytes a program has, only bytes of memory that its
// list names for writing are different afterwards, and they are what a slow
// machine that works on a copy of memory makes of them.
func FuzzRun(f *testing.F) {
	f.Add(uint32(1), uint32(1), uint32(1), []byte{0, 0, 10, 0, 100, 0, 10, 0})
	f.Add(uint32(2), uint32(0), uint32(2), []byte{0, 16, 10, 0, 100, 0, 10, 0})
	f.Add(uint32(3), uint32(2), uint32(0), []byte{0, 16, 10, 0, 100, 0, 10, 0})
	f.Add(uint32(1), uint32(300), uint32(1), []byte{0, 0, 0, 0})
	const window = 1 << 16
	b := newBench(f)
	f.Fuzz(func(t *testing.T, op, src, dst uint32, list []byte) {
		p := b.prog.Mem
		clear(p)
		for i, v := range []uint32{op, 0xaabbccdd, src, dst} {
			binary.LittleEndian.PutUint32(p[4*i:], v)
		}
		var all []engine.Segment
		for i := 0; len(list) >= 4 && 16+16*(i+1) <= len(p); i++ {
			s := b.seg(int(binary.LittleEndian.Uint16(list)), int(binary.LittleEndian.Uint16(list[2:])))
			binary.LittleEndian.PutUint64(p[16+16*i:], uint64(s.HPA))
			binary.LittleEndian.PutUint64(p[24+16*i:], uint64(s.Len))
			all, list = append(all, s), list[4:]
		}
		mem := b.mem.Mem[:2*window]
		want := bytes.Clone(mem)
		b.steps = b.steps[:0]
		_, err := b.Run(b.prog.HPA, b.step)
		if int(src)+int(dst) > len(all) || src > 1000 || dst > 1000 {
			require.Error(t, err)
			require.True(t, bytes.Equal(want, mem))
			return
		}
		var data []byte
		off := func(s engine.Segment) int { return int(s.HPA - b.mem.HPA) }
		for _, s := range all[:src] {
			data = append(data, want[off(s):off(s)+int(s.Len)]...)
		}
		if err == nil {
			for _, s := range all[src : src+dst] {
				to := want[off(s) : off(s)+int(s.Len)]
				if op == 2 {
					copy(to, bytes.Repeat([]byte{0xdd}, len(to)))
				} else {
					data = data[copy(to, data):]
				}
			}
		}
		require.True(t, bytes.Equal(want, mem))
	})
}

func BenchmarkCopy64K(b *testing.B) {
	x := newBench(b)
	e := engine.New(x.domain)
	p := engine.Program{Op: engine.Copy, Src: segs{x.seg(0, 64<<10)}, Dst: segs{x.seg(1<<20, 64<<10)}}
	require.NoError(b, p.Encode(x.prog.Mem))
	b.SetBytes(64 << 10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Run(x.prog.HPA, free); err != nil {
			b.Fatal(err)
		}
	}
}
