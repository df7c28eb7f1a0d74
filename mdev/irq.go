package mdev

// IRQs are the interrupts of a session.
type IRQs struct{}

// IRQSetFlags are VFIO_IRQ_SET_*: one kind of data, one action.
type IRQSetFlags uint32

// The flags of SET_IRQS.
const (
	DataNone      IRQSetFlags = 1 << iota // the vectors, unconditionally
	DataBool                              // the vectors whose byte is not 0
	DataEventFD                           // eventfds for the vectors
	ActionMask                            // mask
	ActionUnmask                          // unmask
	ActionTrigger                         // trigger, or set up what is signalled
)

// IRQRequest is VFIO_DEVICE_SET_IRQS.
type IRQRequest struct {
	Flags               IRQSetFlags
	Index, Start, Count uint32
	Bools               []byte
	FDs                 []int // taken over, whatever the outcome; -1 means none
}

// Trigger raises an interrupt.
func (q *IRQs) Trigger(index, vector int) {}

// Set does a request.
func (q *IRQs) Set(req IRQRequest) error { return nil }

// Func has f called when the vector is signalled, in place of an eventfd; nil
// undoes it.
func (q *IRQs) Func(index, vector int, f func()) {}

// Counts are the numbers of interrupts raised, by index and vector.
func (q *IRQs) Counts() [][]uint64 { return nil }
