package ccwdev_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/mdevtest"
)

// source is a unit that delivers a page to every command.
type source struct{ page [4096]byte }

func (*source) Begin()        {}
func (*source) Reset()        {}
func (*source) Sense() []byte { return nil }
func (s *source) Execute(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	x.Store(s.page[:])
	return cio.Ended
}

// nowhere is a recorder that drops what it gets.
type nowhere struct{}

func (nowhere) Record(any) error { return nil }

// BenchmarkProgram is one program through a session, from the write of region 0
// to the IRB: a CCW that reads a page.
func BenchmarkProgram(b *testing.B) {
	for _, tt := range []struct {
		name string
		rec  mdev.Recorder
	}{{"plain", nil}, {"observed", nowhere{}}} {
		b.Run(tt.name, func(b *testing.B) {
			s := mdevtest.Open(b, behind(b, new(source), binary.BigEndian), &mdev.SessionConfig{Record: tt.rec})
			v := &vm{t: b, s: s, order: binary.BigEndian, mem: make([]byte, memSize)}
			v.ram()
			irq := make(chan struct{}, 1)
			require.NoError(b, s.IRQs().Func(ccw.IRQIO, 0, func() { irq <- struct{}{} }))
			v.program(c(0x02, 0, 4096, dataAt))
			start := v.request(orb())
			var irb [124]byte
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if s.Write(ctx, ccw.RegionIO, 0, start) != nil {
					b.Fatal("refused")
				}
				<-irq
				if s.Read(ctx, ccw.RegionIO, 0, irb[:]) != nil {
					b.Fatal("no IRB")
				}
			}
		})
	}
}
