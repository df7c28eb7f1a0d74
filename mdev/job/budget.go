package job

import (
	"fmt"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Limits bounds the work of one request. A zero field means its default.
type Limits struct {
	// Elements is how many program elements may be examined: CCWs, IDAWs,
	// MIDAWs. Default 65,536.
	Elements uint64
	// Bytes is how many bytes may be fetched from guest memory as program
	// or moved as data. Default 256 MiB.
	Bytes uint64
	// Pins is how many pages may be pinned at a time. Default 32,768
	// (128 MiB).
	Pins uint64
	// Steps is how many elements the hardware may execute; a loop executes
	// an element many times. Default 1,048,576.
	Steps uint64
}

// DefaultLimits are the limits that zero fields stand for.
var DefaultLimits = Limits{Elements: 1 << 16, Bytes: 256 << 20, Pins: 1 << 15, Steps: 1 << 20}

func (l Limits) orDefault() Limits {
	def := func(v *uint64, d uint64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Elements, DefaultLimits.Elements)
	def(&l.Bytes, DefaultLimits.Bytes)
	def(&l.Pins, DefaultLimits.Pins)
	def(&l.Steps, DefaultLimits.Steps)
	return l
}

// Usage is how much work a request has done so far.
type Usage struct{ Elements, Bytes, Pins, Steps uint64 }

// Budget counts the work of one request against its limits. The zero Budget
// allows nothing; Job.Begin fills it.
type Budget struct {
	limit Limits
	used  Usage

	// cancelled, once set, fails the next charge: the way to stop hardware
	// that runs a program whose memory is being taken away.
	cancelled atomic.Pointer[error]
}

func (b *Budget) reset(l Limits) {
	b.limit, b.used = l.orDefault(), Usage{}
	b.cancelled.Store(nil)
}

// Used is the work charged so far.
func (b *Budget) Used() Usage { return b.used }

// Cancel makes every later charge fail with err. It may be called by any
// goroutine, any number of times; the first err stays.
func (b *Budget) Cancel(err error) { b.cancelled.CompareAndSwap(nil, &err) }

// Cancelled is the error given to Cancel, or nil.
func (b *Budget) Cancelled() error {
	if p := b.cancelled.Load(); p != nil {
		return *p
	}
	return nil
}

// Element charges n program elements.
func (b *Budget) Element(n int) error {
	return b.charge(&b.used.Elements, b.limit.Elements, uint64(n), "elements")
}

// Moved charges n bytes.
func (b *Budget) Moved(n int) error {
	return b.charge(&b.used.Bytes, b.limit.Bytes, uint64(n), "bytes")
}

// Step charges the execution of n elements by hardware.
func (b *Budget) Step(n int) error {
	return b.charge(&b.used.Steps, b.limit.Steps, uint64(n), "steps")
}

func (b *Budget) pins(n uint64) error {
	return b.charge(&b.used.Pins, b.limit.Pins, n, "pins")
}

func (b *Budget) charge(used *uint64, limit, n uint64, what string) error {
	if p := b.cancelled.Load(); p != nil {
		return *p
	}
	if n > limit-*used {
		return fmt.Errorf("more than %d %s: %w", limit, what, errs.ErrBudget)
	}
	*used += n
	return nil
}
