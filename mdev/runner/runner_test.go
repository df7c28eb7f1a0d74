package runner_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/job"
	"github.com/softmdev/softmdev/mdev/runner"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/pinning/pintest"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is longer than anything here takes.
const patience = 30 * time.Second

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// done is a context that has ended.
func done() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errDone)
	return ctx
}

var (
	errDone  = errors.New("enough")
	errWrong = errors.New("wrong")
)

// rig is a device whose programs are numbers, of 64 KiB of memory at 0. A
// program pins its page and then does what its number says:
//
//	0-99     ends
//	100-199  fails
//	200-299  holds its page until it is let go, or charged no more
type rig struct {
	*runner.Runner[int]
	store  *translate.Store
	pinner *pinning.Pinner
	at     *mdev.Attachment

	mu      sync.Mutex
	log     []string
	active  []bool
	held    chan int      // programs that hold their page
	letGo   chan struct{} // a value lets one go
	told    chan int
	barrier func() // called by Tell
}

func newRig(t testing.TB, depth int) *rig {
	r := &rig{held: make(chan int, 100), letGo: make(chan struct{}, 100), told: make(chan int, 100)}
	var err error
	r.store, err = translate.New(nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.store.Close()) })
	require.NoError(t, r.store.Map(0, 64<<10, translate.Bytes(make([]byte, 64<<10)), addr.ReadWrite))
	space := iommu.NewSpace(nil)
	r.pinner = pintest.New(t, r.store, space, nil)
	r.at = &mdev.Attachment{Name: "rig", Store: r.store, Pinner: r.pinner, Space: space, Log: slog.New(slog.DiscardHandler)}
	r.Runner = runner.New(r.at, runner.Config[int]{
		Lock: &r.mu, Depth: depth, Limits: job.Limits{Pins: 4},
		Run: r.run,
		Done: func(p *int, err error) {
			require.Zero(t, r.pinner.Charged(), "the pins are gone")
			r.log = append(r.log, fmt.Sprint(*p, " ", err))
		},
		Tell: func(p *int) {
			if r.barrier != nil {
				r.barrier()
			}
			r.told <- *p
		},
		Active: func(some bool) { r.active = append(r.active, some) },
	})
	t.Cleanup(r.Close)
	return r
}

func (r *rig) run(j *job.Job, p *int) error {
	if _, err := j.Pin(addr.IOVA(*p%16)<<addr.PageShift, 8, addr.Write); err != nil {
		return err
	}
	switch {
	case *p < 100:
		return nil
	case *p < 200:
		return errWrong
	}
	r.held <- *p
	for {
		select {
		case <-r.letGo:
			return nil
		case <-time.After(time.Millisecond):
			if err := j.Moved(1); err != nil {
				return err
			}
		}
	}
}

func (r *rig) submit(ps ...int) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range ps {
		err = errors.Join(err, r.Submit(p))
	}
	return err
}

func (r *rig) locked(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// lines is what Done was told.
func (r *rig) lines() (l []string) {
	r.locked(func() { l = append(l, r.log...) })
	return l
}

// Programs run in their order, each with its own outcome, and each is told of.
func TestOrder(t *testing.T) {
	r := newRig(t, 10)
	require.NoError(t, r.submit(1, 102, 3))
	for _, want := range []int{1, 102, 3} {
		require.Equal(t, want, <-r.told)
	}
	require.NoError(t, r.Quiesce(soon(t)))
	require.Equal(t, []string{"1 <nil>", "102 wrong", "3 <nil>"}, r.lines())
	r.Unquiesce()
	require.NoError(t, r.submit(4))
	require.Equal(t, 4, <-r.told)
	require.NoError(t, r.Quiesce(soon(t)))
	require.Equal(t, []bool{true, false}, r.active[:2])
	require.Len(t, r.active, 4)
}

// The queue is bounded, and is a copy.
func TestDepth(t *testing.T) {
	r := newRig(t, 2)
	require.NoError(t, r.submit(200))
	require.Equal(t, 200, <-r.held)
	require.NoError(t, r.submit(1, 2))
	err := r.submit(3)
	require.ErrorIs(t, err, errs.ErrBusy)
	require.EqualError(t, err, "2 programs wait: busy")
	r.locked(func() {
		require.Equal(t, 2, r.Waiting())
		q := r.Queue()
		require.Equal(t, []int{1, 2}, q)
		q[0] = 9
		require.Equal(t, []int{1, 2}, r.Queue())
	})
	r.letGo <- struct{}{}
	for _, want := range []int{200, 1, 2} {
		require.Equal(t, want, <-r.told)
	}
	require.Equal(t, []string{"200 <nil>", "1 <nil>", "2 <nil>"}, r.lines())
}

// An unmap ends the program that holds the page, and no other.
func TestUnmap(t *testing.T) {
	r := newRig(t, 4)
	require.NoError(t, r.submit(201))
	<-r.held
	require.NoError(t, r.submit(2))
	n, err := r.store.Unmap(soon(t), 0, 64<<10)
	require.NoError(t, err)
	require.EqualValues(t, 64<<10, n)
	require.Equal(t, 201, <-r.told)
	require.Equal(t, 2, <-r.told)
	lines := r.lines()
	require.Equal(t, "201 [0x9000, 0x9fff] is being unmapped: busy", lines[0])
	require.Contains(t, []string{
		"2 iova 0x2000: not mapped",
		"2 iova 0x2000: being unmapped: busy", // it came while the unmap was not done
	}, lines[1])
}

// What is dropped is never heard of again; what is submitted then is.
func TestDrop(t *testing.T) {
	r := newRig(t, 4)
	require.NoError(t, r.submit(201, 2, 3))
	<-r.held
	r.locked(func() {
		r.Drop()
		require.Zero(t, r.Waiting())
		require.NoError(t, r.Submit(7))
	})
	require.Equal(t, 7, <-r.told)
	require.Equal(t, []string{"7 <nil>"}, r.lines())
}

// Cancel ends the program that runs with the reason given, and not the next.
func TestCancel(t *testing.T) {
	r := newRig(t, 4)
	r.locked(func() { r.Cancel(errWrong) }) // none runs
	require.NoError(t, r.submit(201, 2))
	<-r.held
	r.locked(func() { r.Cancel(errWrong) })
	require.Equal(t, 201, <-r.told)
	require.Equal(t, 2, <-r.told)
	require.Equal(t, []string{"201 wrong", "2 <nil>"}, r.lines())
}

// Idle waits for the program that runs, not for those behind it.
func TestIdle(t *testing.T) {
	r := newRig(t, 4)
	require.NoError(t, r.Idle(done()))
	require.NoError(t, r.submit(201))
	<-r.held
	err := r.Idle(done())
	require.ErrorIs(t, err, errs.ErrBusy)
	require.ErrorIs(t, err, errDone)
	require.EqualError(t, err, "rig program 1 is under way: busy: enough")
	require.NoError(t, r.submit(202))
	waited := make(chan error)
	for range 3 {
		go func() { waited <- r.Idle(soon(t)) }()
	}
	time.Sleep(10 * time.Millisecond)
	r.letGo <- struct{}{}
	for range 3 {
		require.NoError(t, <-waited)
	}
	require.Equal(t, 202, <-r.held)
	r.letGo <- struct{}{}
}

// Quiesced, the program under way ends, nothing starts, and nobody is told of
// anything; what was submitted starts then.
func TestQuiesce(t *testing.T) {
	r := newRig(t, 4)
	require.NoError(t, r.submit(201, 2))
	<-r.held
	require.ErrorIs(t, r.Quiesce(done()), errs.ErrBusy)
	quiet := make(chan error)
	go func() { quiet <- r.Quiesce(soon(t)) }()
	time.Sleep(10 * time.Millisecond)
	select {
	case <-quiet:
		t.Fatal("quiesced while a program ran")
	default:
	}
	r.letGo <- struct{}{}
	require.NoError(t, <-quiet)
	require.Equal(t, 201, <-r.told)
	require.NoError(t, r.submit(3))
	time.Sleep(10 * time.Millisecond)
	require.Equal(t, []string{"201 <nil>"}, r.lines())
	require.Empty(t, r.told)
	r.Unquiesce()
	require.Equal(t, 2, <-r.told)
	require.Equal(t, 3, <-r.told)
}

// A program ends for Quiesce when it has been told of.
func TestQuiesceWaitsForTell(t *testing.T) {
	r := newRig(t, 4)
	in, out := make(chan struct{}), make(chan struct{})
	r.barrier = func() { close(in); <-out }
	require.NoError(t, r.submit(1))
	<-in
	require.ErrorIs(t, r.Quiesce(done()), errs.ErrBusy)
	close(out)
	require.NoError(t, r.Quiesce(soon(t)))
	require.Equal(t, 1, <-r.told)
}

// Tell may submit, as a guest does whose interrupt handler rings again.
func TestTellSubmits(t *testing.T) {
	r := newRig(t, 1)
	n := 0
	r.barrier = func() {
		if n++; n < 50 {
			require.NoError(t, r.submit(n))
		}
	}
	require.NoError(t, r.submit(0))
	for i := range 50 {
		require.Equal(t, i, <-r.told)
	}
}

// Close, with a program under way and others behind it: none is heard of, and
// nothing is held. The rig checks that no pin is left, TestMain that no goroutine
// is.
func TestClose(t *testing.T) {
	r := newRig(t, 4)
	require.NoError(t, r.submit(201, 2))
	<-r.held
	r.Close()
	require.Zero(t, r.pinner.Charged())
	require.Empty(t, r.lines())
	require.ErrorIs(t, r.submit(3), errs.ErrGone)
	r.Unquiesce()
	r.Close()
	require.Error(t, r.Domain().Read(0, make([]byte, 1)))
}

// Memory for host programs is the hardware's to reach, as it was asked for, and
// goes with the runner.
func TestAlloc(t *testing.T) {
	r := newRig(t, 1)
	f, err := r.Alloc(100, addr.Read)
	require.NoError(t, err)
	copy(f.Mem, "program")
	var p [7]byte
	require.NoError(t, r.Domain().Read(f.HPA, p[:]))
	require.Equal(t, "program", string(p[:]))
	require.ErrorIs(t, r.Domain().Write(f.HPA, p[:]), errs.ErrPermission)
	_, err = r.Alloc(0, addr.Read)
	require.ErrorIs(t, err, errs.ErrInvalid)
	require.EqualError(t, err, "0x0 bytes for host programs: "+errors.Unwrap(err).Error())
	r.Close()
	none, err := r.Alloc(100, addr.Read)
	require.ErrorIs(t, err, errs.ErrGone)
	require.Nil(t, none)
	other := r.at.Space.NewDomain("other")
	require.ErrorIs(t, other.GrantFrames(f, addr.Read), errs.ErrGone, "it was freed")
	other.Close()
}

// A budget is one program's.
func TestLimits(t *testing.T) {
	r := newRig(t, 4)
	r.locked(func() { require.NoError(t, r.Submit(1)) })
	require.Equal(t, 1, <-r.told)
	many := runner.New(r.at, runner.Config[int]{
		Lock: &r.mu, Depth: 1, Limits: job.Limits{Pins: 4},
		Run:  func(j *job.Job, p *int) error { _, err := j.PinRange(0, addr.Len(*p), addr.Read); return err },
		Done: func(p *int, err error) { r.log = append(r.log, fmt.Sprint(*p, " ", err)); r.told <- *p },
	})
	defer many.Close()
	for _, n := range []int{5 * 4096, 4 * 4096} {
		r.locked(func() { require.NoError(t, many.Submit(n)) })
		require.Equal(t, n, <-r.told)
	}
	require.Equal(t, []string{"1 <nil>", "20480 more than 4 pins: budget exhausted", "16384 <nil>"}, r.lines())
}

// Everything at once: what was submitted and not dropped has ended, in order.
func TestConcurrently(t *testing.T) {
	r := newRig(t, 8)
	r.told = make(chan int, 1<<16)
	var wg sync.WaitGroup
	ctx := soon(t)
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				switch i % 20 {
				case 5:
					if g == 0 {
						require.NoError(t, r.Quiesce(ctx))
						r.Unquiesce()
					}
				case 7:
					require.NoError(t, r.Idle(ctx))
				case 9:
					r.locked(func() { r.Cancel(errWrong) })
				case 11:
					if g == 1 {
						r.locked(r.Drop)
					}
				default:
					_ = r.submit(i%100, 100+i%100)
				}
			}
		})
	}
	wg.Wait()
	for r.submit(42) != nil {
		require.NoError(t, r.Idle(ctx))
	}
	for p := -1; p != 42 || len(r.told) > 0; {
		p = <-r.told
	}
	require.NoError(t, r.Quiesce(ctx))
	lines := r.lines()
	require.Equal(t, "42 <nil>", lines[len(lines)-1])
	require.Zero(t, r.pinner.Charged())
}
