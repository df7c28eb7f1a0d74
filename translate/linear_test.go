package translate_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/softmdev/softmdev/translate/translatetest"
)

// Linearizability: several goroutines map, unmap, replace (a batch), look up
// and read a few addresses at once, and porcupine finds an order of the
// operations, one at a time, that explains every answer. The addresses lie on
// both sides of a 2 MiB boundary, so that a mapping over it spans whatever
// pieces the store keeps its table in: a read across the boundary that saw one
// half of a Map, or of a batch, has no explanation.

const linPages = 4

var linBase = addr.IOVA(0x20_0000 - linPages/2*0x1000)

// linCell is what the model knows of a page: whose memory, and which extent.
type linCell struct{ id, start, n uint8 }

type linState [linPages]linCell

type linInput struct {
	op       string // map, unmap, replace, lookup, read
	start, n uint8  // pages; read: the two bytes around the end of page start
	id       uint8  // memory given to map and replace
}

type linOutput struct {
	errno int
	size  addr.Len // unmap
	id    uint8    // lookup, read: the page's memory, 0 for none
	id2   uint8    // read: the next page's
	left  addr.Len // lookup: bytes to the end of the mapping
	at    addr.IOVA
}

func (s linState) mapAt(in linInput) (linState, linOutput) {
	for i := in.start; i < in.start+in.n; i++ {
		if s[i].id != 0 {
			return s, linOutput{errno: int(errs.Errno(errs.ErrExists))}
		}
	}
	for i := in.start; i < in.start+in.n; i++ {
		s[i] = linCell{in.id, in.start, in.n}
	}
	return s, linOutput{}
}

func (s linState) unmap(in linInput) (linState, linOutput) {
	end := in.start + in.n
	var out linOutput
	next := s
	for i := in.start; i < end; i++ {
		c := s[i]
		if c.id == 0 {
			continue
		}
		if c.start < in.start || c.start+c.n > end {
			return s, linOutput{errno: int(errs.Errno(errs.ErrBisects))}
		}
		next[i] = linCell{}
		out.size += pg
	}
	return next, out
}

func (s linState) step(in linInput) (linState, linOutput) {
	switch in.op {
	case "map":
		return s.mapAt(in)
	case "unmap":
		return s.unmap(in)
	case "replace":
		next, out := s.unmap(in)
		if out.errno != 0 {
			return s, linOutput{errno: out.errno}
		}
		return next.mapAt(in)
	case "lookup":
		c := s[in.start]
		if c.id == 0 {
			return s, linOutput{}
		}
		return s, linOutput{id: c.id, left: addr.Len(c.start+c.n-in.start) * pg}
	case "read":
		edge := linBase + addr.IOVA(in.start+1)*0x1000
		a, b := s[in.start].id, s[in.start+1].id
		switch {
		case a == 0:
			return s, linOutput{errno: int(errs.Errno(errs.ErrNotMapped)), at: edge - 1}
		case b == 0:
			return s, linOutput{errno: int(errs.Errno(errs.ErrNotMapped)), at: edge}
		}
		return s, linOutput{id: a, id2: b}
	}
	panic(in.op)
}

var linModel = porcupine.Model{
	Init: func() any { return linState{} },
	Step: func(state, input, output any) (bool, any) {
		next, want := state.(linState).step(input.(linInput))
		return want == output.(linOutput), next
	},
	Equal: func(a, b any) bool { return a.(linState) == b.(linState) },
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v -> %+v", input, output)
	},
}

// linMemory is memory whose every byte is its id, so that an answer says whose
// it was; translate.Bytes of the pages of id.
type linMemory struct{ bytes []byte }

func (m linMemory) of(id uint8) []byte {
	return m.bytes[int(id)*linPages*int(pg):][:linPages*int(pg)]
}

func (m linMemory) owner(hva addr.HVA) uint8 {
	return uint8(addr.Len(hva-translatetest.HVAOf(m.bytes)) / (linPages * pg))
}

type linClient struct {
	store  *translate.Store
	reader *translate.Reader
	mem    linMemory
}

func (c linClient) do(in linInput) (out linOutput) {
	ctx := context.Background()
	iova, n := linBase+addr.IOVA(in.start)*0x1000, addr.Len(in.n)*pg
	var err error
	switch in.op {
	case "map":
		err = c.store.Map(iova, n, translate.Bytes(c.mem.of(in.id)), rw)
	case "unmap":
		out.size, err = c.store.Unmap(ctx, iova, n)
	case "replace":
		err = c.store.Apply(ctx, translate.UnmapOp(iova, n), translate.MapOp(iova, n, translate.Bytes(c.mem.of(in.id)), rw))
	case "lookup":
		c.reader.Enter()
		if run, ok := c.reader.Lookup(iova); ok {
			out.id, out.left = c.mem.owner(run.HVA), run.Len
		}
		c.reader.Exit()
	case "read":
		var p [2]byte
		c.reader.Enter()
		err = c.reader.Read(iova+0xfff, p[:])
		c.reader.Exit()
		if err == nil {
			out.id, out.id2 = p[0], p[1]
		}
		var pe *errs.ProgramError
		if errors.As(err, &pe) && in.op == "read" {
			out.at = addr.IOVA(pe.At)
		}
	}
	out.errno = int(errs.Errno(err))
	return out
}

func TestLinearizable(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	if s := os.Getenv("TRANSLATE_LINEAR_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	const (
		clients = 4
		each    = 24
	)
	mem := linMemory{mapped(t, (clients*each+1)*linPages*int(pg))}
	for id := range clients*each + 1 {
		for i := range mem.of(uint8(id)) {
			mem.of(uint8(id))[i] = byte(id)
		}
	}
	for round := range rounds {
		store, err := translate.New(nil)
		require.NoError(t, err)
		var (
			ops   [clients][]porcupine.Operation
			wg    sync.WaitGroup
			start = time.Now()
			gate  = make(chan struct{})
		)
		for c := range clients {
			rng := rand.New(rand.NewPCG(uint64(round), uint64(c)))
			wg.Go(func() {
				client := linClient{store, store.NewReader(), mem}
				defer client.reader.Close()
				<-gate
				for i := range each {
					in := linDraw(rng, uint8(1+c*each+i))
					// The clock is read, not counted up: a shared counter would
					// order the clients and hide races from the race detector.
					call := time.Since(start)
					out := client.do(in)
					ret := time.Since(start)
					ops[c] = append(ops[c], porcupine.Operation{
						ClientId: c, Input: in, Output: out, Call: int64(call), Return: int64(ret),
					})
				}
			})
		}
		close(gate)
		wg.Wait()
		require.NoError(t, store.Check())
		require.NoError(t, store.Close())
		var history []porcupine.Operation
		for _, o := range ops {
			history = append(history, o...)
		}
		result, info := porcupine.CheckOperationsVerbose(linModel, history, 20*time.Second)
		if result == porcupine.Illegal {
			for _, o := range history {
				t.Logf("%d [%d, %d] %s", o.ClientId, o.Call, o.Return, linModel.DescribeOperation(o.Input, o.Output))
			}
			_ = info
			t.Fatalf("round %d: no sequential order explains the answers", round)
		}
		if result == porcupine.Unknown {
			t.Logf("round %d: not decided in time", round)
		}
	}
}

func linDraw(rng *rand.Rand, id uint8) linInput {
	start := uint8(rng.IntN(linPages))
	n := uint8(1 + rng.IntN(linPages-int(start)))
	switch rng.IntN(8) {
	case 0, 1:
		return linInput{op: "map", start: start, n: n, id: id}
	case 2:
		return linInput{op: "unmap", start: start, n: n}
	case 3:
		return linInput{op: "unmap", start: 0, n: linPages}
	case 4:
		return linInput{op: "replace", start: start, n: n, id: id}
	case 5:
		return linInput{op: "lookup", start: start}
	default:
		return linInput{op: "read", start: uint8(rng.IntN(linPages - 1))}
	}
}

// A batch is seen at once, by a read that crosses mappings too: two pages that
// are replaced together never read as one old and one new.
func TestBatchIsSeenAtOnce(t *testing.T) {
	store, err := translate.New(nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	var mem [2][]byte
	for i := range mem {
		mem[i] = mapped(t, 2*int(pg))
		for k := range mem[i] {
			mem[i][k] = byte(i)
		}
	}
	ops := func(i int) []translate.Op {
		return []translate.Op{
			translate.UnmapOp(0x4000, 2*pg),
			translate.MapOp(0x4000, pg, translate.Bytes(mem[i][:pg]), rw), translate.MapOp(0x5000, pg, translate.Bytes(mem[i][pg:]), rw),
		}
	}
	require.NoError(t, store.Apply(context.Background(), ops(0)...))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			rd := store.NewReader()
			defer rd.Close()
			for {
				select {
				case <-stop:
					return
				default:
				}
				for range 100 {
					var p [2]byte
					rd.Enter()
					err := rd.Read(0x4fff, p[:])
					rd.Exit()
					if err != nil {
						t.Errorf("a hole inside a batch: %v", err)
						return
					}
					if p[0] != p[1] {
						t.Errorf("a read saw half a batch: %d, %d", p[0], p[1])
						return
					}
				}
			}
		})
	}
	rounds := 3000
	if testing.Short() {
		rounds = 500
	}
	for i := range rounds {
		require.NoError(t, store.Apply(context.Background(), ops(i%2)...))
	}
	close(stop)
	wg.Wait()
}
