// Package intremap is the interrupt remapping unit of the emulated platform:
// the one way from a message that a device writes to a CPU.
//
// A device raises an interrupt by a store to 0xfee00000..0xfeefffff, a
// [Message], and the guest behind the device may have chosen every bit of it,
// at any time. What the guest cannot choose is the [Requester] that the
// hardware stamps on it. The unit looks the message up in its [Table], and
// delivers it to the [Sink] of the entry if that entry belongs to the
// requester's VM and admits the requester's source id; else it refuses it, and
// the fault log says from whom it came, what it was and why.
//
//	device -- Message, Requester --> Table.Write
//	            window, format            outside: refused
//	              compatibility           the VM's own sink, or blocked
//	              remappable              handle + subhandle = index
//	                owner                 another VM's: refused
//	                present, reserved bits, source id
//	                  remapped form  -->  Sink: vector, APIC id, mode
//	                  posted form    -->  Descriptor in memory; Sink: notification
//
// Entries are allocated in blocks ([Table.Alloc]) that have an owner, and set
// one by one ([Block.Set]). The owner is ours: VT-d knows source ids only,
// which tell devices from each other, not the guests that share one.
//
// # Specifications
//
//   - Intel Virtualization Technology for Directed I/O, rev 4: the chapters on
//     interrupt remapping and posting, the IRTE, the posted-interrupt
//     descriptor, the fault reason encodings.
//   - Intel SDM volume 3: message signalled interrupts, for the compatibility
//     format.
//   - As practised: Linux include/linux/dmar.h (struct irte),
//     drivers/iommu/intel/irq_remapping.c, arch/x86/include/asm/posted_intr.h;
//     QEMU hw/i386/intel_iommu.c. Where they differ the comment says so.
//
// # Invariants
//
//   - A message reaches a sink only if the entry belongs to the VM that wrote
//     it, whatever the message says. No bit of one VM's entry decides what
//     becomes of another VM's message.
//   - When [Block.Set], [Block.Revoke], [Block.Free], [Table.SetCompatibility]
//     or [Table.Close] returns, nothing is delivered by the former entry any
//     more, in any goroutine. A message that is written later meets the new
//     one. (The unit keeps no cache: there is nothing to invalidate.)
//   - Every message is either delivered or counted by its reason; a refused
//     one is in the fault log as well, unless the writer's own entry has FPD
//     set. The log is bounded, the counts are not.
//   - A handle is no secret. An index may be used again by another VM at once:
//     a message that is kept from before is then foreign.
//   - Write takes no lock on the way to a sink, never blocks on account of
//     another VM, and allocates nothing. Its cost does not depend on the number
//     of entries.
//
// # Lock order
//
//	Block.mu, Table.compatMu   held while deliveries drain
//	  Table.mu                 allocation
//	faultLog.mu                leaf; refusals only
//
// Sinks run with no lock held.
//
// # Out of scope
//
// The registers of the unit, its invalidation queue and its fault event
// interrupt: a table here is changed by calls. I/O APIC entries are messages
// like any others; end-of-interrupt for level triggered ones is the CPU's
// side. The advanced fault log. What a PASID-granular request does to source
// verification: reason 0x29 is not raised, the VM identity stands in its place.
package intremap
