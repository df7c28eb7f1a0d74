package intremap_test

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu/intremap"
)

// TestChangeWaitsForDelivery: with a delivery under way, no call that changes
// its entry returns; one that changes another entry does.
func TestChangeWaitsForDelivery(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*intremap.Table, *intremap.Block)
		m      func(*intremap.Block) intremap.Message
	}{
		{name: "Revoke", change: func(_ *intremap.Table, b *intremap.Block) { b.Revoke(0) }},
		{name: "Set", change: func(_ *intremap.Table, b *intremap.Block) { _ = b.Set(0, remapped(2, 0), new(inbox)) }},
		{name: "Free", change: func(_ *intremap.Table, b *intremap.Block) { b.Free() }},
		{name: "Close", change: func(t *intremap.Table, _ *intremap.Block) { t.Close() }},
		{name: "SetCompatibility", change: func(t *intremap.Table, _ *intremap.Block) { _ = t.SetCompatibility(vmA, nil) },
			m: func(*intremap.Block) intremap.Message { return intremap.Compat{}.Message() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := newTable(t, &intremap.Config{Entries: 4, Compatibility: true})
				b := alloc(t, table, vmA, 2)
				inside, leave := make(chan struct{}), make(chan struct{})
				sink := intremap.SinkFunc(func(intremap.Interrupt) { close(inside); <-leave })
				require.NoError(t, b.Set(0, remapped(1, 0), sink))
				require.NoError(t, table.SetCompatibility(vmA, sink))
				require.NoError(t, b.Set(1, remapped(1, 0), new(inbox)))
				m := b.Message(0)
				if row.m != nil {
					m = row.m(b)
				}
				var delivered, changed atomic.Bool
				go func() {
					_ = table.Write(devA, m)
					delivered.Store(true)
				}()
				<-inside
				b.Revoke(1) // its own entry is idle
				go func() {
					row.change(table, b)
					changed.Store(true)
				}()
				time.Sleep(time.Second)
				require.False(t, changed.Load(), "changed while delivering")
				require.False(t, delivered.Load())
				close(leave)
				time.Sleep(time.Second)
				require.True(t, changed.Load())
				require.True(t, delivered.Load())
			})
		})
	}
}

// TestRevokeTakesEffect: writers hammer one handle while it is set, replaced,
// revoked and freed; no sink is entered after the change that ended it has
// returned.
func TestRevokeTakesEffect(t *testing.T) {
	table := newTable(t, &intremap.Config{Entries: 2, FaultLog: 4})
	var stop atomic.Bool
	var late, delivered atomic.Uint64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				_ = table.Write(devA, handle(n&1))
				if n&63 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	// busy returns when a writer is at it.
	busy := func() {
		for before := delivered.Load(); delivered.Load() == before; {
			runtime.Gosched()
		}
	}
	for range 1000 {
		b := alloc(t, table, vmA, 1)
		var over [3]atomic.Bool
		sink := func(n int) intremap.Sink {
			return intremap.SinkFunc(func(intremap.Interrupt) {
				delivered.Add(1)
				if over[n].Load() {
					late.Add(1)
				}
			})
		}
		require.NoError(t, b.Set(0, remapped(1, 0), sink(0)))
		busy()
		require.NoError(t, b.Set(0, remapped(2, 0), sink(1)))
		over[0].Store(true)
		busy()
		b.Revoke(0)
		over[1].Store(true)
		require.NoError(t, b.Set(0, remapped(3, 0), sink(2)))
		busy()
		b.Free()
		over[2].Store(true)
	}
	stop.Store(true)
	wg.Wait()
	require.Zero(t, late.Load())
}

// TestHostileVMs: two VMs share a device, and only A's side of it writes, to
// every handle that there is and some that there are not, while the blocks of
// both come and go. B's sinks stay silent.
func TestHostileVMs(t *testing.T) {
	table := newTable(t, &intremap.Config{Entries: 16, FaultLog: 16})
	var stop atomic.Bool
	var writers, owners sync.WaitGroup
	var sunkA, sunkB counter
	for n := range uint64(2) {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(n, 1))
			for !stop.Load() {
				// Remappable or not, with a subhandle or without; each half
				// of the entries half of the time.
				m := intremap.Message{Addr: 0xfee0_0000 | r.Uint64()&0x1ff, Data: r.Uint32() & 7}
				_ = table.Write(devA, m)
				if m.Data == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	enough := func() bool { return sunkA.n.Load() > 1000 && table.Refused(intremap.ReasonForeign) > 1000 }
	for _, vm := range []struct {
		id   intremap.VMID
		sink intremap.Sink
	}{{vmA, &sunkA}, {vmB, &sunkB}} {
		owners.Go(func() {
			r := rand.New(rand.NewPCG(uint64(vm.id), 2))
			for n := 0; n < 2000 || !enough(); n++ {
				b, err := table.Alloc(vm.id, 1+r.IntN(4), 1)
				if err != nil {
					continue
				}
				for i := range b.Len() {
					_ = b.Set(i, remapped(uint8(i), 0), vm.sink)
				}
				b.Revoke(r.IntN(b.Len()))
				_ = b.Set(0, remapped(9, 0), vm.sink)
				runtime.Gosched()
				b.Free()
			}
		})
	}
	owners.Wait()
	stop.Store(true)
	writers.Wait()
	require.Zero(t, sunkB.n.Load(), "A raised interrupts in B")
}

type counter struct{ n atomic.Uint64 }

func (c *counter) Deliver(intremap.Interrupt) { c.n.Add(1) }

// TestLinearizable: a handle that is set, revoked and written to by several at
// once behaves like one that these happen to one after another.
func TestLinearizable(t *testing.T) {
	type input struct{ op byte } // 's'et, 'r'evoke, 'w'rite
	model := porcupine.Model{
		Init: func() any { return false }, // present
		Step: func(state, in, out any) (bool, any) {
			switch in.(input).op {
			case 's':
				return true, true
			case 'r':
				return true, false
			}
			return out.(bool) == state.(bool), state
		},
	}
	for round := range 40 {
		table := newTable(t, &intremap.Config{Entries: 1, FaultLog: 1})
		b := alloc(t, table, vmA, 1)
		var sink counter
		var mu sync.Mutex
		var history []porcupine.Operation
		start := time.Now()
		var wg sync.WaitGroup
		for client := range 4 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(round), uint64(client)))
				for range 25 {
					op := porcupine.Operation{ClientId: client, Call: int64(time.Since(start)), Output: false}
					switch n := r.IntN(4); {
					case n == 0 && client < 2:
						op.Input = input{'s'}
						_ = b.Set(0, remapped(1, 0), &sink)
					case n == 1 && client < 2:
						op.Input = input{'r'}
						b.Revoke(0)
					default:
						op.Input = input{'w'}
						op.Output = table.Write(devA, b.Message(0)) == nil
					}
					op.Return = int64(time.Since(start))
					mu.Lock()
					history = append(history, op)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		delivered := uint64(0)
		for _, op := range history {
			if op.Output.(bool) {
				delivered++
			}
		}
		require.Equal(t, delivered, sink.n.Load(), "Write says nil exactly when the sink was entered")
		require.Equal(t, porcupine.Ok, porcupine.CheckOperationsTimeout(model, history, 5*time.Second))
	}
}

// TestPostRace: vectors posted by several while the CPU's side takes them; none
// is lost: whoever is not notified finds it on its last look.
func TestPostRace(t *testing.T) {
	d := new(intremap.Descriptor)
	table := newTable(t, &intremap.Config{Entries: 256, EIM: true, Memory: lines{0x40: d}})
	b := alloc(t, table, vmA, 256)
	notified := make(chan struct{}, 1)
	sink := intremap.SinkFunc(func(intremap.Interrupt) {
		select {
		case notified <- struct{}{}:
		default:
		}
	})
	for v := range 256 {
		require.NoError(t, b.Set(v, intremap.Posted{Common: present(uint8(v)), Descriptor: 0x40}.IRTE(), sink))
	}
	var posters sync.WaitGroup
	for n := range 4 {
		posters.Go(func() {
			for i := range 64 {
				require.NoError(t, table.Write(devA, b.Message(n*64+i)))
			}
		})
	}
	seen, limit := 0, time.After(10*time.Second)
	for seen < 256 {
		select {
		case <-notified:
		case <-limit:
			t.Fatalf("%d of 256 vectors arrived", seen)
		}
		for _, w := range d.Take() {
			for ; w != 0; w &= w - 1 {
				seen++
			}
		}
	}
	posters.Wait()
	require.Equal(t, 256, seen)
}

// TestCompatibilityBlocked: the same for requests in compatibility format.
func TestCompatibilityBlocked(t *testing.T) {
	table := newTable(t, &intremap.Config{Entries: 1, FaultLog: 1, Compatibility: true})
	m := intremap.Compat{Vector: 0x31}.Message()
	var stop atomic.Bool
	var late, delivered atomic.Uint64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				_ = table.Write(devA, m)
				if n&63 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	for range 2000 {
		var over atomic.Bool
		before := delivered.Load()
		require.NoError(t, table.SetCompatibility(vmA, intremap.SinkFunc(func(intremap.Interrupt) {
			delivered.Add(1)
			if over.Load() {
				late.Add(1)
			}
		})))
		for delivered.Load() == before {
			runtime.Gosched()
		}
		require.NoError(t, table.SetCompatibility(vmA, nil))
		over.Store(true)
	}
	stop.Store(true)
	wg.Wait()
	require.Zero(t, late.Load())
}
