// Package iommu is the hardware's side of memory: which host-physical
// addresses are frames, and which of them one device may reach, for what.
//
// Emulated hardware (a channel subsystem, a command streamer, an accelerator)
// is handed a [Domain] and nothing else. It can name host-physical addresses
// only, and an address means nothing until somebody on the mediator's side
// granted the frame there to that domain:
//
//	pinned guest pages   package pinning: a [Window] for a mapping, a [Reach]
//	                     for each holder, [Reach.Grant] and [Reach.Revoke]
//	our own memory       [Space.Alloc], [Domain.GrantFrames]: host programs
//	no memory at all     [Domain.Trap], [Domain.Hole]
//
// Every other access is refused with errs.ErrReach, every access against the
// grant with errs.ErrPermission; it moves no byte, is counted and logged. A
// mediator that forgets to translate an address, or keeps one for too long,
// therefore faults instead of passing its test. That makes the fault count the
// oracle of every fuzzer of this project.
//
// # Invariants
//
//   - Hardware moves a byte only while a grant for the byte's page and that
//     direction stands.
//   - When [Domain.Quiesce] returns after a [Reach.Revoke], no access to the
//     revoked pages is under way or will be, in any goroutine: the memory may
//     be unmapped. [Domain.RevokeFrames], [Frames.Free] and [Domain.Close]
//     include the wait.
//   - An access is checked whole before its first byte moves. (Remote memory:
//     a revoke that comes between the messages of one access ends it.)
//   - A frame's address is used again as late as possible.
//   - Backing that a peer truncates costs the access (errs.ErrFault), not the
//     process.
//   - No access and no grant allocates in the steady state.
//
// # Lock order
//
//	the maker of a window (package pinning's mutex, Frames.mu)
//	  Domain.mu         reaches of the domain; never held by hardware
//	  Space.mu          address allotment
//	  gate.mu           one waiter for hardware at a time
//	faultLog.mu         leaf
//
// Hardware takes no lock but that of the fault log. Answers of a trap run with
// none held.
//
// # Out of scope
//
// Real devices: nothing here programs a physical IOMMU. Interrupts are memory
// writes to real hardware; here they are another package's. What the frames
// contain is not interpreted, and ordering between devices is that of the
// goroutines that act for them.
package iommu
