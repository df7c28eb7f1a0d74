// Package ccw mediates channel programs: a guest starts a program with guest
// addresses, and hardware runs one that names only memory which this request
// has pinned.
//
//	ORB, CCWs, IDALs in guest memory
//	   | walk.go lists.go   fetch each byte once, find what execution can reach
//	   v
//	 program (guest addresses, immutable)
//	   | pin.go             one lease, least access
//	   v
//	 program + host addresses
//	   | rewrite.go         format 1, format-2 lists, in frames of our own
//	   v
//	 host program --------> hardware (package channel), through iommu
//	   | complete.go        status and addresses back into the guest's terms
//	   v
//	 SCSW, IRB              lease gone before the guest can hear of the end
//
// regions.go is the same behind the regions and states of vfio-ccw. watch.go
// looks on, where somebody wants to know ([Submission]): it keeps the bytes that
// were fetched and moved anyway, and fetches none.
//
// # What the host program is
//
// The guest's program with every address translated, and nothing else changed:
// commands, flags, counts and chains stand as the guest wrote them, so that
// hardware, not we, decides what they mean. An address that has no translation
// becomes an address in a hole of the host's space (iommu.Domain.Hole), where
// hardware finds the same check that the guest's address deserves. So an error
// in a CCW is reported when execution reaches it, as the architecture says,
// and not at all if execution ends before; vfio-ccw refuses such a program
// whole. Only these are refused at Start, with an error and no status: more
// than 256 CCWs in a chain, more than 16 chains, a budget, the memlock limit,
// memory that is suspended or being unmapped.
//
// # Programs that change while they run
//
// With prefetch allowed (ORB P=1) a program is fetched once and translated
// whole. Without (P=0), and where the program can be suspended and changed
// (S=1), it is translated CCW by CCW when hardware fetches it, through a
// window of host addresses whose reads are answered by the translator
// (window.go); the same lease, the same budget. The window also serves what a
// whole translation cannot foresee: where status modifier leads past the end
// of a chain.
//
// Two things show that it is a window. The list of a CCW is fetched with the
// CCW, so an input that overwrites words of its own list, which the
// architecture lets take effect with P=0, does not. And hardware counts
// transfers that lead backward by host addresses, which follow the guest's
// within a run of the window only: a loop over several places ends in the same
// check, perhaps at another of its transfers.
//
// # Invariants
//
//   - Every address in a host program lies in frames leased by that program
//     with the access it needs, in the arena or window of the device, or in a
//     hole.
//   - A guest byte is fetched once per request; with P=0 once per execution of
//     the CCW it belongs to.
//   - After the program ended, however it ended, its lease is gone. A
//     suspended program holds none.
//   - No host address reaches the guest: status addresses are translated back
//     or zero.
//   - Work per request is bounded by one budget.
//   - A Submission holds what a program fetched, with the value it had then,
//     and what it stored; the same program does the same on memory that holds
//     nothing else.
//
// # Storage keys
//
// The keys in ORB and SCSW are accepted and kept. Guest storage has no keys
// here, so nothing is checked against them; the permission of a mapping takes
// their place: a device access that it does not allow is a protection check.
//
// # Locks
//
//	Device.mu        the phase of the device
//	Device.prog      the program in hand, its addresses
//	  pinning, translate: their own locks
//
// Neither is held while hardware starts, runs or calls back.
//
// # Out of scope
//
// Transport mode (errs.ErrNotSupported), QDIO, measurement blocks, the
// address-limit facility (accepted, no limit is ever set).
//
// Specification: SA22-7832 z/Architecture Principles of Operation, chapters
// on I/O; Linux Documentation/arch/s390/vfio-ccw.rst.
package ccw
