package mdev

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
)

// migration is where a session is in migration, and the streams.
type migration struct {
	state atomic.Uint32 // MigState; changed by whoever is alone behind the gate

	mu  sync.Mutex // above outStream.mu
	out *outStream // guarded by mu; nil outside the saving states
	in  *inStream  // guarded by mu; nil outside RESUMING
	// ending are the ends of streams that are over but whose goroutines may
	// still run. Guarded by mu.
	ending []<-chan struct{}
}

func (m *migration) outgoing() *outStream {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.out
}

func (m *migration) incoming() *inStream {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.in
}

// beginOut begins an outgoing stream with what f writes.
func (m *migration) beginOut(t *tasks, f producer) {
	out := &outStream{tasks: t}
	out.ctx, out.cancel = context.WithCancelCause(context.Background())
	end := out.produce(f)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out = out
	m.ending = append(m.ending, end)
}

// moreOut adds what f writes to the outgoing stream. Closing may have ended
// that, since it waits for nobody.
func (m *migration) moreOut(f producer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out != nil {
		m.ending = append(m.ending, m.out.produce(f))
	}
}

func (m *migration) beginIn(t *tasks, load func(context.Context, io.Reader) error) {
	in := newInStream(t, load)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.in = in
	m.ending = append(m.ending, in.done)
}

// finishIn says that the new state is whole, and waits for what the device
// makes of it.
func (m *migration) finishIn(ctx context.Context) error {
	in := m.incoming()
	if in == nil { // closing has ended it, and waits for nobody
		return fmt.Errorf("loading: session is closing: %w", errs.ErrGone)
	}
	err := in.finish(ctx)
	m.abort(fmt.Errorf("migration stream is over: %w", errs.ErrState))
	if err == nil {
		err = m.wait(ctx) // it is over; this forgets it
	}
	return err
}

// abort ends the streams with an error. Their goroutines may run on; see wait.
func (m *migration) abort(err error) {
	m.mu.Lock()
	out, in := m.out, m.in
	m.out, m.in = nil, nil
	m.mu.Unlock()
	if out != nil {
		out.abort(err)
	}
	if in != nil {
		in.abort(err)
	}
}

// wait waits for the goroutines of streams that are over.
func (m *migration) wait(ctx context.Context) error {
	m.mu.Lock()
	ending := m.ending
	m.ending = nil
	m.mu.Unlock()
	for i, end := range ending {
		select {
		case <-end:
			continue
		default:
		}
		select {
		case <-end:
		case <-ctx.Done():
			m.mu.Lock()
			m.ending = append(m.ending, ending[i:]...)
			m.mu.Unlock()
			return context.Cause(ctx)
		}
	}
	return nil
}

// producer writes a part of a device's state.
type producer = func(context.Context, io.Writer) error

// outBuffer is what a device may be ahead of the reader of its state, bytes.
const outBuffer = 64 << 10

// outStream is the state of a device on its way out: the parts that it made in
// PRE_COPY and in STOP_COPY, one after the other.
type outStream struct {
	tasks  *tasks
	ctx    context.Context
	cancel context.CancelCauseFunc

	reading sync.Mutex // one reader at a time

	mu    sync.Mutex // leaf
	parts []*outPart // guarded by mu; never empty; the first is being read
	ended error      // guarded by mu; what abort said
}

type outPart struct {
	r    *io.PipeReader
	w    *io.PipeWriter
	done chan struct{} // closed when the device has made all of it
}

// produce adds a part, made by f on a goroutine of its own when those before
// it are made.
func (o *outStream) produce(f producer) <-chan struct{} {
	x := &outPart{done: make(chan struct{})}
	x.r, x.w = io.Pipe()
	o.mu.Lock()
	defer o.mu.Unlock()
	var before <-chan struct{}
	if n := len(o.parts); n != 0 {
		before = o.parts[n-1].done
	}
	o.parts = append(o.parts, x)
	if o.ended != nil {
		x.w.CloseWithError(o.ended)
	}
	o.tasks.start(func() {
		defer close(x.done)
		if before != nil {
			<-before
		}
		w := bufio.NewWriterSize(x.w, outBuffer)
		err := context.Cause(o.ctx)
		if err == nil {
			err = f(o.ctx, w)
		}
		if err == nil {
			err = w.Flush()
		}
		x.w.CloseWithError(err) // nil is io.EOF
	})
	return x.done
}

// read fills p as far as the stream goes. io.EOF: not at all.
func (o *outStream) read(p []byte) (n int, err error) {
	o.reading.Lock()
	defer o.reading.Unlock()
	for n < len(p) {
		o.mu.Lock()
		x := o.parts[0]
		o.mu.Unlock()
		m, err := io.ReadFull(x.r, p[n:])
		n += m
		switch {
		case err == nil:
			return n, nil
		case err != io.EOF && err != io.ErrUnexpectedEOF:
			return n, err
		case o.nextPart():
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
	return n, nil
}

// nextPart goes on to the part after the one that was read to its end, if
// there is one.
func (o *outStream) nextPart() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.parts) == 1 {
		return false
	}
	o.parts = o.parts[1:]
	return true
}

func (o *outStream) abort(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = err
	o.cancel(err)
	for _, x := range o.parts {
		// The writer's end: readers get err, a write of the device fails.
		x.w.CloseWithError(err)
	}
}

// inStream is the state of a device on its way in.
type inStream struct {
	cancel context.CancelCauseFunc
	w      *io.PipeWriter
	done   chan struct{} // closed when Load has returned

	err     error       // of Load; valid when done is closed
	surplus atomic.Bool // something was written that Load did not want
}

// errSurplus is what is written to a device that has its state.
var errSurplus = fmt.Errorf("more data than the device takes: %w", errs.ErrInvalid)

func newInStream(t *tasks, load func(context.Context, io.Reader) error) *inStream {
	ctx, cancel := context.WithCancelCause(context.Background())
	r, w := io.Pipe()
	in := &inStream{cancel: cancel, w: w, done: make(chan struct{})}
	t.start(func() {
		defer close(in.done)
		in.err = load(ctx, r)
		if in.err != nil {
			r.CloseWithError(in.err)
		} else {
			r.CloseWithError(errSurplus)
		}
	})
	return in
}

func (in *inStream) write(p []byte) error {
	if len(p) == 0 {
		return nil // a pipe would wait for a reader all the same
	}
	_, err := in.w.Write(p)
	if err == io.ErrClosedPipe { // RESUMING ends while this is written
		return fmt.Errorf("migration stream is over: %w", errs.ErrState)
	}
	if errors.Is(err, errSurplus) {
		in.surplus.Store(true)
	}
	return err
}

func (in *inStream) finish(ctx context.Context) error {
	_ = in.w.Close()
	select {
	case <-in.done:
	case <-ctx.Done():
		return waitError("loading", context.Cause(ctx))
	}
	switch {
	case in.err != nil:
		return fmt.Errorf("loading: %w", in.err)
	case in.surplus.Load():
		return fmt.Errorf("loading: %w", errSurplus)
	}
	return nil
}

func (in *inStream) abort(err error) {
	in.cancel(err)
	in.w.CloseWithError(err)
}
