// Package addr names the four address spaces of a mediated device and gives
// each its own type, so that the compiler refuses to use a guest address where
// a host address belongs.
//
//	GPA   guest-physical address    what the guest calls an absolute address
//	IOVA  I/O virtual address       what the guest's device programs contain
//	HVA   host-virtual address      where that memory is in this process
//	HPA   host-physical address     what (emulated) hardware puts on its bus
//
// There is no implicit way from one to another. A change of space is a named
// function, and there are few: [IdentityIOVA] here, the look-up of package
// translate (IOVA to HVA) and the pins of package pinning (IOVA to HPA).
//
// Ranges hold their first and last address, both inclusive, because a mapping
// may end at 2^64-1 and an exclusive end would wrap to zero there. Arithmetic
// that can wrap returns (value, ok).
//
// The package is a leaf: it imports nothing of this module.
package addr
