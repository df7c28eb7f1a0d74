package channel_test

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// endless is a device that delivers data as long as there is room, and says
// that it began. Its program is a data chain that leads back to itself.
type endless struct {
	began chan struct{}
	once  sync.Once
	using atomic.Int32 // goroutines in the device
	worst atomic.Int32
}

func (d *endless) enter() func() {
	if n := d.using.Add(1); n > 1 {
		d.worst.Store(n)
	}
	return func() { d.using.Add(-1) }
}

func (d *endless) Begin()        { d.enter()() }
func (d *endless) Sense() []byte { d.enter()(); return nil }
func (d *endless) Reset()        { d.enter()() }
func (d *endless) Execute(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	defer d.enter()()
	for x.Store(pattern[:4096]) == 4096 {
		if d.began != nil {
			d.once.Do(func() { close(d.began) })
		}
	}
	return cio.Ended
}

func endlessProgram(mem *storage) {
	g := rig{mem: mem}
	g.put(progAt, true, ccw(rd, cd, 4096, dataAt), ccw(0, cd, 4096, dataAt+4096), ccw(cio.TIC, 0, 0, progAt+8))
}

// Halt, clear and close end a program that would not end by itself, in the
// middle of one operation.
func TestRunningProgramIsEnded(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(s *channel.Subchannel) cio.CC
		want cio.Control
		at   bool // the CCW address is that of the program
	}{
		{"halt", (*channel.Subchannel).Halt, normalEnd | cio.HaltFunction, true},
		{"clear", (*channel.Subchannel).Clear, cio.ClearFunction | cio.StatusPending, false},
		{"halt, then clear", func(s *channel.Subchannel) cio.CC { s.Halt(); return s.Clear() }, cio.ClearFunction | cio.StatusPending, false},
		{"close", func(s *channel.Subchannel) cio.CC { s.Close(); return cio.CC0 }, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &endless{began: make(chan struct{})}
			mem := newStorage(storeAt, poison)
			endlessProgram(mem)
			told := make(chan struct{}, 16)
			s := channel.New(mem, d, testPMCW(), &channel.Config{
				Dispatch:       func(run func()) { go run() },
				Interrupt:      func() { told <- struct{}{} },
				MaxBackwardTIC: math.MaxInt,
			})
			require.Equal(t, cio.CC0, s.Start(format1()))
			<-d.began
			require.Equal(t, cio.CC2, s.Cancel(), "it has reached the device")
			require.Equal(t, cio.CC0, tt.do(s))
			var irb cio.IRB
			if tt.want == 0 {
				require.Equal(t, cio.CC3, s.Test(&irb))
				require.Empty(t, told, "a closed subchannel tells nothing")
				require.Zero(t, d.using.Load(), "Close waited")
				return
			}
			<-told
			require.Equal(t, cio.CC0, s.Test(&irb))
			require.Equal(t, tt.want, irb.SCSW.Control())
			if tt.at {
				require.Equal(t, cio.Ended, irb.SCSW.Device())
				require.Contains(t, []uint32{progAt + 8, progAt + 16}, irb.SCSW.CCWAddr())
			}
			s.Close()
		})
	}
}

// A program that is ended between two commands.
func TestHaltBetweenCommands(t *testing.T) {
	d := unit(8)
	g := newRig(d).build(testPMCW())
	d.exec = func(cio.Command, *channel.Transfer) cio.DeviceStatus {
		require.Equal(t, cio.CC0, g.sub.Halt())
		require.Equal(t, cio.CC2, g.sub.Halt())
		return cio.Ended
	}
	g.put(progAt, true, ccw(ctl, cc, 0, 0), ccw(ctl, 0, 0, 0))
	g.sub.Start(format1())
	w := g.last(t).SCSW
	require.Equal(t, normalEnd|cio.HaltFunction, w.Control())
	require.Equal(t, uint32(progAt+8), w.CCWAddr())
	require.Len(t, d.cmds, 1)
	require.Equal(t, cio.CC0, g.sub.Start(format1()), "the halt is over")
}

// A start from within Interrupt runs after it, and does not nest.
func TestStartFromInterrupt(t *testing.T) {
	d := unit(8)
	mem := newStorage(storeAt, poison)
	var s *channel.Subchannel
	depth, runs := 0, 0
	s = channel.New(mem, d, testPMCW(), &channel.Config{Interrupt: func() {
		depth++
		defer func() { depth-- }()
		require.Equal(t, 1, depth)
		var irb cio.IRB
		require.Equal(t, cio.CC0, s.Test(&irb))
		if runs++; runs < 1000 {
			require.Equal(t, cio.CC0, s.Start(format1()))
		}
	}})
	g := rig{mem: mem}
	g.put(progAt, true, ccw(rd, 0, 8, dataAt))
	require.Equal(t, cio.CC0, s.Start(format1()))
	require.Equal(t, 1000, runs)
	require.Len(t, d.cmds, 1000)
}

// Oracle: under any interleaving of instructions one goroutine at a time is in
// the device, each accepted start or halt or clear comes to an end, and Close
// leaves nothing running. The race detector watches the rest.
func TestConcurrentInstructions(t *testing.T) {
	for _, inline := range []bool{true, false} {
		d := &endless{}
		mem := newStorage(storeAt, poison)
		endlessProgram(mem)
		var s *channel.Subchannel
		var workers sync.WaitGroup
		steps := 0 // of the goroutine that serves
		cfg := &channel.Config{
			Steps: func(n int) error { // the program ends by itself, after a while
				if steps += n; steps > 80 {
					return errs.ErrBudget
				}
				return nil
			},
			Stopped: func(channel.Stop) { steps = 0 },
			Interrupt: func() {
				var irb cio.IRB
				s.Test(&irb)
			},
		}
		if !inline {
			cfg.Dispatch = func(run func()) {
				workers.Add(1)
				go func() { defer workers.Done(); run() }()
			}
		}
		s = channel.New(mem, d, testPMCW(), cfg)
		var users sync.WaitGroup
		stop := time.Now().Add(150 * time.Millisecond)
		for i := range 6 {
			users.Add(1)
			go func() {
				defer users.Done()
				rnd := rand.New(rand.NewPCG(uint64(i), 1))
				var irb cio.IRB
				var schib cio.SCHIB
				for time.Now().Before(stop) {
					switch rnd.IntN(9) {
					case 0, 1, 2:
						s.Start(format1())
					case 3:
						s.Halt()
					case 4:
						s.Clear()
					case 5:
						s.Cancel()
					case 6:
						s.Test(&irb)
					case 7:
						s.Attention(cio.Attention)
					case 8:
						s.Store(&schib)
						s.Resume()
						s.Modify(&cio.SCHIB{PMCW: testPMCW()})
					}
				}
			}()
		}
		users.Wait()
		if !inline {
			workers.Wait()
		}
		// Everything that was accepted is over: what remains is at most
		// status that nobody took.
		var irb cio.IRB
		for s.Test(&irb) == cio.CC0 {
		}
		require.Equal(t, cio.Control(0), irb.SCSW.Control(), "%v", irb.SCSW.Control())
		require.Equal(t, cio.CC0, s.Start(format1()))
		s.Close()
		workers.Wait()
		require.Zero(t, d.worst.Load(), "two goroutines in the device")
		require.Zero(t, d.using.Load())
	}
}
