package demo_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
)

// A register access allocates nothing.
func TestAllocs(t *testing.T) {
	r := newRig(t, nil)
	p := make([]byte, 4)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_ = r.Write(r.ctx, mdev.BAR0, demo.RegCounter, p)
		_ = r.Read(r.ctx, mdev.BAR0, demo.RegStatus, p)
		_ = r.Read(r.ctx, mdev.BAR1, demo.PBAOffset, p)
	}))
}

func BenchmarkRegisterWrite(b *testing.B) {
	r := newRig(b, nil)
	p := make([]byte, 4)
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Write(r.ctx, mdev.BAR0, demo.RegCounter, p)
	}
}

// From the doorbell to the interrupt.
func BenchmarkCommand(b *testing.B) {
	for _, n := range []uint32{0, 64, 4096, 64 << 10, 1 << 20} {
		c := cmd{op: demo.CommandCopy, src: base, dst: base + 2<<20, length: n}
		if n == 0 {
			c.op = demo.CommandRaise
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := withRAM(b)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				r.ring(c)
				<-r.irqs[0]
			}
		})
	}
}
