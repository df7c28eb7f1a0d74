package ccwdev

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/softmdev/softmdev/mdev/errs"
)

// worker runs what it is given, one after another, on a goroutine of its own.
type worker struct {
	mu     sync.Mutex
	queue  []func()      // guarded by mu
	busy   bool          // guarded by mu; something runs
	paused bool          // guarded by mu; nothing begins
	closed bool          // guarded by mu
	news   chan struct{} // of capacity 1: the queue, paused or closed changed
	rest   chan struct{} // guarded by mu; closed when what runs has ended; nil while nobody waits
	done   chan struct{} // closed when the goroutine has ended
}

func newWorker() *worker {
	w := &worker{news: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// do has f run. It does not wait.
func (w *worker) do(f func()) {
	w.mu.Lock()
	w.queue = append(w.queue, f)
	w.mu.Unlock()
	w.tell()
}

func (w *worker) tell() {
	select {
	case w.news <- struct{}{}:
	default: // it has not heard the last news yet
	}
}

func (w *worker) run() {
	defer close(w.done)
	for {
		f, end := w.next()
		if end {
			return
		}
		if f == nil {
			<-w.news
			continue
		}
		f()
		w.mu.Lock()
		w.busy = false
		if w.rest != nil {
			close(w.rest)
			w.rest = nil
		}
		w.mu.Unlock()
	}
}

// next takes what is to be run next; nil if nothing is. end says that nothing
// will be.
func (w *worker) next() (f func(), end bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return nil, w.closed
	}
	if w.paused && !w.closed {
		return nil, false
	}
	f = w.queue[0]
	w.queue = slices.Delete(w.queue, 0, 1) // few are ever in it
	w.busy = true
	return f, false
}

// pause lets what runs end, and nothing begin until resume. When ctx is done
// first it fails, and things go on as before.
func (w *worker) pause(ctx context.Context) error {
	w.mu.Lock()
	w.paused = true
	for w.busy {
		if w.rest == nil {
			w.rest = make(chan struct{})
		}
		rest := w.rest
		w.mu.Unlock()
		select {
		case <-rest:
			w.mu.Lock()
		case <-ctx.Done():
			w.resume()
			return fmt.Errorf("a program is under way: %w: %w", errs.ErrDeadline, context.Cause(ctx))
		}
	}
	w.mu.Unlock()
	return nil
}

// resume undoes pause.
func (w *worker) resume() {
	w.mu.Lock()
	w.paused = false
	w.mu.Unlock()
	w.tell()
}

// isPaused reports whether nothing begins.
func (w *worker) isPaused() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.paused
}

// close runs what is in the queue, paused or not, and waits for it.
func (w *worker) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.tell()
	<-w.done
}
