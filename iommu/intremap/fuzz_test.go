package intremap_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu/intremap"
)

// Oracle: every message has one format, and reading it in that format and
// writing it again gives the same bits; a table that holds nothing refuses it,
// for a reason that fits the format.
func FuzzMessage(f *testing.F) {
	f.Add(uint64(0xfee0_0018), uint32(0xffff))
	f.Add(uint64(0xfeef_ffff), uint32(0xffff_ffff))
	f.Add(uint64(0xfee0_0000), uint32(0x8031))
	f.Add(uint64(0x1_fee0_0010), uint32(0))
	table, err := intremap.New(&intremap.Config{Entries: 1024, FaultLog: 1})
	require.NoError(f, err)
	f.Cleanup(table.Close)
	f.Fuzz(func(t *testing.T, a uint64, d uint32) {
		m := intremap.Message{Addr: a, Data: d}
		got := table.Write(devA, m)
		inside := a>>20 == 0xfee
		switch f := m.Format(); {
		case !inside:
			require.Equal(t, intremap.Outside, f)
			require.Equal(t, intremap.ReasonAddress, got)
		case a&0x10 == 0:
			require.Equal(t, intremap.Compatibility, f)
			require.Equal(t, m, m.Compat().Message())
			require.Equal(t, intremap.ReasonCompatibility, got)
		default:
			require.Equal(t, intremap.RemappableFormat, f)
			r := m.Remappable()
			require.Equal(t, m, r.Message())
			want := intremap.ReasonNotPresent
			if r.SubhandleValid && r.DataHigh != 0 {
				want = intremap.ReasonRequestReserved
			} else if r.Index() >= 1024 {
				want = intremap.ReasonIndex
			}
			require.Equal(t, want, got)
		}
	})
}

// Oracle: every pattern reads as one form, and writing that form again gives
// the same bits; the unit delivers by it exactly if it is present, Validate
// accepts it and its verification admits the source.
func FuzzIRTE(f *testing.F) {
	for _, e := range []intremap.IRTE{{}, remapped(1, 0), {Lo: 0x8001}, {Lo: ^uint64(0), Hi: ^uint64(0)}} {
		b := e.Encode()
		f.Add(b[:], true)
		f.Add(b[:], false)
	}
	f.Fuzz(func(t *testing.T, b []byte, eim bool) {
		var raw [16]byte
		copy(raw[:], b)
		e := intremap.DecodeIRTE(&raw)
		require.Equal(t, raw, e.Encode())
		d := new(intremap.Descriptor)
		memory := lines{}
		if e.IsPosted() {
			require.Equal(t, e, e.Posted().IRTE())
			memory[e.Posted().Descriptor] = d
		} else {
			require.Equal(t, e, e.Remapped().IRTE())
		}
		table, err := intremap.New(&intremap.Config{Entries: 1, FaultLog: 1, EIM: eim, Memory: memory})
		require.NoError(t, err)
		defer table.Close()
		block, err := table.Alloc(vmA, 1, 1)
		require.NoError(t, err)
		var sink counter
		require.NoError(t, block.Set(0, e, &sink))
		err = table.Write(devA, block.Message(0))
		if e.Present() && e.Validate(eim) == nil && e.Source().Admits(source) {
			require.NoError(t, err)
			require.EqualValues(t, 1, sink.n.Load())
		} else {
			require.Error(t, err)
			require.Zero(t, sink.n.Load())
			require.Equal(t, [4]uint64{}, d.Take())
			require.Len(t, table.Faults(), map[bool]int{true: 0, false: 1}[e.FaultsDisabled()])
		}
	})
}

// bell counts for itself and for all; one goroutine rings it.
type bell struct {
	n     uint64
	total *uint64
}

func (b *bell) Deliver(intremap.Interrupt) { b.n++; *b.total++ }

// Oracle: a message reaches exactly the sink of the writer's own live entry
// that it names, or none; what reaches none is the newest fault, with source,
// VM, message, entry and a reason. Two VMs share one source id; they allocate,
// set, revoke and free, and write what they like: own, foreign, kept from
// before, random.
func FuzzHostile(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"))
	f.Add([]byte("aAbBcCdDeEfFgGhHiIjJkKlLmMnNoOpPqQrRsStTuUvVwWxXyYzZ"))
	const entries = 32
	type owned struct {
		b    *intremap.Block
		live []bool
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		table, err := intremap.New(&intremap.Config{Entries: entries, PerVM: 24, FaultLog: 1})
		require.NoError(t, err)
		defer table.Close()
		vms := []intremap.Requester{devA, devB}
		var total uint64
		var sinks [2][entries]bell
		for v := range sinks {
			for i := range sinks[v] {
				sinks[v][i].total = &total
			}
		}
		var blocks [2][]owned
		var kept []intremap.Message
		write := func(v int, m intremap.Message) {
			// What may happen, from the script's own books.
			var want *bell
			if m.Format() == intremap.RemappableFormat {
				r := m.Remappable()
				for _, o := range blocks[v] {
					i := int(r.Index()) - o.b.First()
					if i >= 0 && i < o.b.Len() && o.live[i] && (!r.SubhandleValid || r.DataHigh == 0) {
						want = &sinks[v][r.Index()]
					}
				}
			}
			all, faults := total, table.FaultCount()
			var mine uint64
			if want != nil {
				mine = want.n
			}
			err := table.Write(vms[v], m)
			if want != nil {
				if err != nil || want.n != mine+1 || total != all+1 || table.FaultCount() != faults {
					t.Fatalf("own message %v of vm %d: %v, %d deliveries, %d of them right", m, vms[v].VM, err, total-all, want.n-mine)
				}
				return
			}
			if total != all {
				t.Fatalf("%v of vm %d reached a sink", m, vms[v].VM)
			}
			index := intremap.NoIndex
			if r := m.Remappable(); m.Format() == intremap.RemappableFormat && err != intremap.ReasonRequestReserved {
				index = int(r.Index())
			}
			reason, _ := err.(intremap.Reason)
			fault := intremap.Fault{Seq: faults + 1, Requester: vms[v], Message: m, Index: index, Reason: reason}
			if got := table.Faults()[0]; reason == 0 || got != fault {
				t.Fatalf("refused with %v, logged as %v, not %v", err, got, fault)
			}
		}
		next := func() (c byte) {
			if len(script) > 0 {
				c, script = script[0], script[1:]
			}
			return c
		}
		for steps := 0; len(script) > 0 && steps < 1024; steps++ {
			op := next()
			v, x := int(op&1), int(next())
			mine := blocks[v]
			switch op >> 1 % 8 {
			case 0: // allocate
				if b, err := table.Alloc(vms[v].VM, 1+x%5, 1<<(x/64)); err == nil {
					blocks[v] = append(mine, owned{b, make([]bool, b.Len())})
				}
			case 1: // set
				if len(mine) > 0 {
					o := mine[x%len(mine)]
					i := x / 8 % o.b.Len()
					at := o.b.First() + i
					require.NoError(t, o.b.Set(i, remapped(uint8(at), 0), &sinks[v][at]))
					o.live[i] = true
					kept = append(kept, o.b.Message(i))
				}
			case 2: // revoke
				if len(mine) > 0 {
					o := mine[x%len(mine)]
					i := x / 8 % o.b.Len()
					o.b.Revoke(i)
					o.live[i] = false
				}
			case 3: // free
				if len(mine) > 0 {
					i := x % len(mine)
					mine[i].b.Free()
					blocks[v] = append(mine[:i:i], mine[i+1:]...)
				}
			case 4: // what anyone used once
				if len(kept) > 0 {
					write(v, kept[x%len(kept)])
				}
			case 5: // every handle, from one on
				for i := range 2 * entries {
					write(v, handle((x+i)%(entries+2)))
				}
			case 6: // handle and subhandle
				m := handle(x)
				m.Addr |= 8
				m.Data = uint32(next())<<8>>(x%17) | uint32(x&1)<<31>>(x%3*8)
				write(v, m)
			case 7: // anything, near the window
				var w [8]byte
				for i := range w {
					w[i] = next()
				}
				r := binary.LittleEndian.Uint64(w[:])
				write(v, intremap.Message{Addr: 0xfee0_0000 | r&0xfffff, Data: uint32(r >> 32)})
				write(v, intremap.Message{Addr: r, Data: uint32(x)})
			}
		}
	})
}
