package ccw

import (
	"time"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/translate/addr"
)

// Submission is one program that hardware took and what became of it: what the
// guest submitted, the memory that the program named, what hardware did and
// what the guest got back. Addresses are the guest's throughout. See
// Config.Observe.
//
// It holds what was fetched and moved for the program when that was done;
// nothing of the guest is read for it.
type Submission struct {
	Program uint64 // as in the ledger of pins
	// ORB is that of START SUBCHANNEL. With Resumed it is the same but for the
	// program address, which is where the program was suspended.
	ORB     cio.ORB
	Resumed bool
	PMCW    cio.PMCW // at the start

	// Fetched is every byte of guest memory that was fetched, as program or as
	// data, with the value that it had the first time; without bytes that the
	// program itself had stored before. The mediator fetches what execution
	// can reach, so that there may be more of it than execution did.
	Fetched []Segment
	// Stored is every byte that hardware stored, with its final value.
	Stored []Segment
	// Trace are the CCWs that hardware executed, in order.
	Trace []Step

	End End
	// SCSW is the status with which the program ended; IRB, which contains it,
	// is nil where the guest did not ask for it.
	SCSW cio.SCSW
	IRB  *cio.IRB
	// Took is the time from START SUBCHANNEL to the end.
	Took time.Duration

	// Changed says that somebody else stored into memory that the program had
	// fetched or stored already, and that it then fetched something else:
	// what happened cannot be told from Fetched alone.
	Changed bool
	// Err says why the Submission is not whole: it would be too large.
	Err error

	pages map[addr.IOVA]*watchPage // behind Fetched and Stored
}

// Segment is guest memory at consecutive addresses, within one page. The
// segments of a list are disjoint, in ascending order.
type Segment struct {
	At   addr.IOVA
	Data []byte
}

// Step is one CCW that hardware executed.
type Step struct {
	At  uint32 // guest address
	CCW cio.CCW
	// Ended says that the CCW finished an operation, with the status below. A
	// transfer in channel does not, nor a CCW that chains data to the next,
	// nor one in which a halt or a clear stopped the program.
	Ended      bool
	Device     cio.DeviceStatus
	Subchannel cio.SubchannelStatus
	Count      uint16 // residual count
}

// End is how a program ended.
type End uint8

// The ends of a program.
const (
	Ended     End = iota // by itself, in whatever status
	Suspended            // at a CCW with the S flag
	Halted               // by HALT SUBCHANNEL
	Cleared              // by CLEAR SUBCHANNEL, or because the device was closed
)

var endNames = [...]string{"ended", "suspended", "halted", "cleared"}

// String is the end in lower case.
func (e End) String() string { return endNames[e] }

// endOf is the end that a final status tells of.
func endOf(s *cio.SCSW) End {
	switch c := s.Control(); {
	case c&cio.ClearFunction != 0:
		return Cleared
	case c&cio.HaltFunction != 0:
		return Halted
	case c&cio.Suspended != 0:
		return Suspended
	}
	return Ended
}
