// Package errs holds the few errors that cross package boundaries, each with
// the errno of the kernel interface it mirrors, and the position type that
// turns "not mapped" into "ccw[3] at 0x2010: IDAW 2: iova 0x7000: not mapped".
//
// Inner code says what went wrong by wrapping a sentinel. Each level that
// knows a position adds it, exactly once, as a [*ProgramError]. [Errno] is
// called at the edge only (a protocol reply, a ret_code); inside, errors.Is
// compares sentinels.
//
// The package is a leaf.
package errs

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// sentinel is an error that carries its errno. errors.Is(err, unix.EEXIST)
// holds for a sentinel of EEXIST as well, because it unwraps to the errno.
type sentinel struct {
	text  string
	errno syscall.Errno
}

func (s *sentinel) Error() string { return s.text }
func (s *sentinel) Unwrap() error { return s.errno }

// The sentinels. The errno is what Linux returns for the same condition;
// specs and kernel file in brackets.
var (
	// ErrInvalid: an argument has no meaning: zero length, unknown flag.
	ErrInvalid error = &sentinel{"invalid argument", syscall.EINVAL}
	// ErrMisaligned: not a multiple of the smallest page or block
	// [vfio_iommu_type1.c].
	ErrMisaligned error = &sentinel{"misaligned", syscall.EINVAL}
	// ErrOverflow: address plus length passes 2^64 [vfio_iommu_type1.c
	// since 6.19: EOVERFLOW; EINVAL before].
	ErrOverflow error = &sentinel{"range passes 2^64", syscall.EOVERFLOW}
	// ErrExists: overlaps something that is there already.
	ErrExists error = &sentinel{"already exists", syscall.EEXIST}
	// ErrNoSpace: a table is full: mappings, IOVA space, instances.
	ErrNoSpace error = &sentinel{"no space left", syscall.ENOSPC}
	// ErrOutsideRange: outside the valid IOVA ranges.
	ErrOutsideRange error = &sentinel{"outside the valid ranges", syscall.EINVAL}
	// ErrBisects: an unmap would cut a mapping in two.
	ErrBisects error = &sentinel{"bisects a mapping", syscall.EINVAL}
	// ErrNotMapped: no mapping holds the address.
	ErrNotMapped error = &sentinel{"not mapped", syscall.EINVAL}
	// ErrNotFound: no such object.
	ErrNotFound error = &sentinel{"not found", syscall.ENOENT}
	// ErrPermission: the mapping does not allow the access.
	ErrPermission error = &sentinel{"access not permitted", syscall.EPERM}
	// ErrSuspended: the mapping's memory is suspended (vaddr update).
	ErrSuspended error = &sentinel{"mapping suspended", syscall.EBUSY}
	// ErrBusy: in use; the text around it names by whom.
	ErrBusy error = &sentinel{"busy", syscall.EBUSY}
	// ErrMemlock: the pin would pass the locked-memory limit.
	ErrMemlock error = &sentinel{"locked-memory limit exceeded", syscall.ENOMEM}
	// ErrFault: the memory behind a mapping is gone (a truncated file).
	ErrFault error = &sentinel{"memory behind the mapping is gone", syscall.EFAULT}
	// ErrNotV2: the call needs a type1v2 container.
	ErrNotV2 error = &sentinel{"needs type1 v2", syscall.EACCES}
	// ErrBudget: the program used up its budget of work.
	ErrBudget error = &sentinel{"budget exhausted", syscall.E2BIG}
	// ErrChainTooLong: more CCWs in a chain than vfio-ccw accepts
	// [vfio_ccw_cp.c ccwchain_calc_length: EINVAL].
	ErrChainTooLong error = &sentinel{"chain too long", syscall.EINVAL}
	// ErrReach: hardware named memory that it was not granted.
	ErrReach error = &sentinel{"outside the device's reach", syscall.EFAULT}
	// ErrNotSupported: a valid request for a feature that is not there.
	ErrNotSupported error = &sentinel{"not supported", syscall.EOPNOTSUPP}
	// ErrNoAction: the object does not know this action at all
	// [vfio_pci_intrs.c vfio_pci_set_irqs_ioctl: ENOTTY].
	ErrNoAction error = &sentinel{"no such action", syscall.ENOTTY}
	// ErrState: the object is in a state that does not take this request.
	ErrState error = &sentinel{"wrong state", syscall.EIO}
	// ErrAgain: a request is being taken in; try again.
	ErrAgain error = &sentinel{"try again", syscall.EAGAIN}
	// ErrNoPath: the path used is gone, another may be there.
	ErrNoPath error = &sentinel{"no path", syscall.EACCES}
	// ErrGone: the device or its owner is gone.
	ErrGone error = &sentinel{"device is gone", syscall.ENODEV}
	// ErrDeadline: a bounded wait ran out.
	ErrDeadline error = &sentinel{"deadline passed", syscall.EBUSY}
)

// Errno is the errno that the kernel interface would return for err: 0 for
// nil, EIO for an error that carries none.
func Errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return syscall.EIO
}

// ProgramError says at which element of a guest program an error stands.
// Nested, it reads outermost first:
//
//	ccw[3] at 0x2010: IDAW 2: iova 0x7000: not mapped
type ProgramError struct {
	Elem  string // kind of element: "ccw", "IDAW", "iova", "descriptor"
	Index int    // its index in the program, or -1 where it has none
	At    uint64 // its guest address, meaningful when HasAt
	HasAt bool
	Err   error // what is wrong there; never nil
}

// At is err at element index of kind elem, which lies at guest address a.
func At(elem string, index int, a uint64, err error) error {
	return &ProgramError{Elem: elem, Index: index, At: a, HasAt: true, Err: err}
}

// In is err in element index of kind elem, whose address says nothing.
func In(elem string, index int, err error) error {
	return &ProgramError{Elem: elem, Index: index, Err: err}
}

// Addr is err at address a of the given space ("iova", "gpa", "hpa").
func Addr(space string, a uint64, err error) error {
	return &ProgramError{Elem: space, Index: -1, At: a, HasAt: true, Err: err}
}

func (e *ProgramError) Error() string {
	var b strings.Builder
	b.WriteString(e.Elem)
	switch {
	case e.Index < 0 && e.HasAt:
		fmt.Fprintf(&b, " %#x", e.At)
	case e.HasAt:
		fmt.Fprintf(&b, "[%d] at %#x", e.Index, e.At)
	case e.Index >= 0:
		fmt.Fprintf(&b, " %d", e.Index)
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	return b.String()
}

func (e *ProgramError) Unwrap() error { return e.Err }
