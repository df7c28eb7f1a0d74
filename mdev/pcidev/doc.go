// Package pcidev puts a PCI function together: configuration space, MSI-X table
// and what answers in its BARs become the regions and interrupts of an
// mdev.Device, whose Info, Read and Write this package has.
//
//	type Device struct {
//		*pcidev.Function // Info, Read, Write
//		...              // Open, Close, Reset
//	}
//
// The MSI-X table lies over its BAR. Who emulates it is the VMM, which reads it
// from here at most: what a guest writes to it reads back, and is acted on by
// nobody, so a device raises its interrupts with [mdev.IRQs.Trigger] whatever it
// says. Pending bits are those of the session: interrupts that wait because
// the VMM has not armed their vector yet. (A VMM without an emulation of its own
// has [pci.MSIXTable].)
//
// # Invariants
//
//   - Regions are as large as the BARs that configuration space shows, and MSI-X
//     has as many vectors.
//   - An access that touches table or pending bits is answered by them alone:
//     nothing behind the BAR is read or written by it.
//
// # Out of scope
//
// Decoding: regions answer whether or not memory space is enabled; the VMM maps
// them where the guest says. Expansion ROMs, VGA.
package pcidev
