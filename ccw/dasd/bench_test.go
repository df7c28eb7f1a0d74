package dasd_test

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/dasd"
	"github.com/softmdev/softmdev/translate/addr"
)

// flat is storage that costs as little as storage can: the benchmark is about
// the device.
type flat []byte

func (m flat) Read(a addr.HPA, p []byte) error  { copy(p, m[a:]); return nil }
func (m flat) Write(a addr.HPA, p []byte) error { copy(m[a:], p); return nil }

var flatOnce = sync.OnceValue(func() flat { return make(flat, storageSize) })

func flatStorage(testing.TB) flat { return flatOnce() }

// BenchmarkRecording runs all of a recording's programs, formatting of two
// volumes included, unmediated. The metric to look at
// is ns/CCW.
func BenchmarkRecording(b *testing.B) {
	for _, scenario := range []string{"dasd", "zipl"} {
		b.Run(scenario, func(b *testing.B) { benchmarkRecording(b, scenario) })
	}
}

func benchmarkRecording(b *testing.B, scenario string) {
	type program struct {
		sch *channel.Subchannel
		orb *cio.ORB
		r   *record
	}
	mem := flatStorage(b)
	list := records(b, scenario+".jsonl.gz")
	images := map[uint16]*dasd.Memory{}
	subchannels := map[uint16]*channel.Subchannel{}
	var programs []program
	ccws := 0
	for i := range list {
		r := &list[i]
		if subchannels[r.devno] == nil {
			img, err := dasd.FromBytes(gunzip(b, filepath.Join(goldenDir, "init", imageName(scenario, r.devno))))
			require.NoError(b, err)
			v, err := dasd.Open(img, &dasd.Config{DeviceNumber: r.devno})
			require.NoError(b, err)
			images[r.devno] = img
			subchannels[r.devno] = channel.New(mem, v, cio.PMCW(unhex(r.PMCW)), nil)
		}
		programs = append(programs, program{subchannels[r.devno], r.orb(), r})
		ccws += len(r.Trace)
	}
	// The storage of each program is put in place between them, which is not
	// to be measured; the benchmark's own timer is too slow to stop so often.
	var spent time.Duration
	done := 0
	for b.Loop() {
		for _, img := range images {
			img.Discard()
		}
		for _, p := range programs {
			for _, s := range p.r.Memory {
				a, data := s.bytes()
				copy(mem[a:], data)
			}
			var irb cio.IRB
			begin := time.Now()
			p.sch.Start(p.orb)
			p.sch.Test(&irb)
			spent += time.Since(begin)
		}
		done += ccws
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(done), "ns/CCW")
}
