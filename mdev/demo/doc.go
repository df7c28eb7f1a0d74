// Package demo is the "hello world" of the framework, and the template for a new
// mediator: a PCI device that copies, fills and sums guest memory with a DMA
// engine, and interrupts when it has. It is small because everything that the
// next mediator needs as well is elsewhere:
//
//	registers.go  the register map          mdev/reg     registers from a table
//	device.go     what the device is        mdev/pcidev  PCI function: regions, interrupts
//	walk.go       doorbell -> command       mdev/runner  queue, goroutine, cancel, quiesce
//	rewrite.go    command -> host program   mdev/job     pins and budget of a command
//	complete.go   outcome -> registers      mdev/ram     memory behind a BAR
//	migrate.go    state -> stream -> state
//	engine/       the hardware, which only package iommu lets into memory
//
// # The way of a command
//
//	guest writes COMMAND          the registers are its parameters, taken with it
//	  written    walk.go          queue; the write returns, and waits for nothing
//	  execute    rewrite.go       on the runner's goroutine
//	    check                     is it a command at all
//	    rewrite                   pin source and destination, least access; host program
//	    engine.Run                hardware runs it, through iommu
//	  the pins go
//	  complete   complete.go      STATUS, VALUE, COMPLETED
//	  interrupt  complete.go      MSI-X, or MSI
//
// # Registers
//
// BAR 0, 4 KiB, little-endian, any width and alignment; [reg.Table] says what
// the columns are. What is not listed reads as 0 and ignores writes.
//
//	offset  width  name       reset             write             w1c  order     live      kept
//	0x000   4      ID         6f6d6564          -                 -    -         -         -
//	0x004   4      VERSION    00000001          -                 -    -         -         -
//	0x008   4      SCRATCH    00000000          ffffffff          -    -         -         -
//	0x00c   4      STATUS     00000000          -                 -    -         ffff0003  -
//	0x010   8      SRC        0000000000000000  ffffffffffffffff  -    -         -         -
//	0x018   8      DST        0000000000000000  ffffffffffffffff  -    -         -         -
//	0x020   4      LEN        00000000          ffffffff          -    -         -         -
//	0x024   4      VALUE      00000000          ffffffff          -    -         -         -
//	0x028   4      VECTOR     00000000          00000003          -    -         -         -
//	0x02c   4      COMMAND    00000000          -                 -    ffffffff  -         -
//	0x030   4      COMPLETED  00000000          -                 -    -         ffffffff  -
//	0x034   4      COUNTER    00000000          ffffffff          -    -         -         -
//
// SCRATCH and COUNTER have no meaning. SRC and DST are IOVAs of any alignment;
// LEN bytes from there may lie in any number of mappings.
//
//	STATUS  bit 0       commands wait or run
//	        bit 1       the command that ended last failed
//	        bits 16-31  with this errno; else 0
//
// A write to COMMAND is a command (bytes of it that are not written count as 0).
// It takes SRC, DST, LEN, VALUE and VECTOR as they are then, so a driver may set
// up the next one at once; up to [MaxQueue] wait. Each ends once, in its order:
// COMPLETED counts it, STATUS says how it went, and interrupt VECTOR is raised,
// also where it failed.
//
//	1  copy      LEN bytes at SRC to DST; they may overlap
//	2  fill      LEN bytes at DST with the low byte of VALUE
//	3  checksum  CRC-32 (IEEE 802.3) of LEN bytes at SRC; it is put into VALUE
//	4  raise     nothing but the interrupt
//
//	EINVAL     no such command; LEN is 0 or above 1 MiB; nothing is mapped there
//	EPERM      the mapping does not allow it; bus mastering is off
//	EOVERFLOW  SRC or DST + LEN passes 2^64
//	EBUSY      the memory is being unmapped; more than MaxQueue commands wait
//	EFAULT     the memory is gone, or the client did not serve it
//	ENOMEM     it may not be pinned: the limit on locked memory
//
// Commands that found the queue full end before those that wait, and their
// interrupts come with that of the next one to end. A command that fails before
// the engine writes (all of the above but EFAULT, and EBUSY and EPERM that come
// while it runs) leaves memory as it was.
//
// Commands 1 to 3 need bus mastering, bit 2 of the PCI command register, as does
// every device that reaches memory; a reset clears it. Interrupts do not: whether
// a message may be sent is the business of who emulates MSI-X. Registers answer
// whether or not memory space is enabled: decoding is the VMM's.
//
// BAR 1, 16 KiB: MSI-X table of 4 vectors at 0, pending bits at 0x800. With the
// attribute interrupts=msi the function has MSI in place of MSI-X, and nothing in
// BAR 1; where the guest enables fewer than 4 vectors, the low bits of VECTOR
// choose among those.
//
// BAR 2, 64 KiB, 64 bits, prefetchable: memory, zeroed by every reset. It traps,
// or, with the attribute mmap=on, may be mapped.
//
// Vendor 0x6d64 ("dm" in memory), device 0x0001, class 0xff0000; capabilities: PM
// (D0, D3hot), PCI Express endpoint with function-level reset, MSI-X (or MSI), and a
// vendor-specific one that holds "softmdev demo".
//
// # Resets
//
// DEVICE_RESET and function-level reset bring everything to its initial state.
// Commands that wait are forgotten; the one that runs ends with its next access
// to memory, and nobody is told. A function-level reset is a register write and
// so waits for nothing; Transactions Pending says when the engine is out of
// memory. DEVICE_RESET waits for that, for up to 100 ms.
//
// # Invariants
//
//   - A write waits for no DMA, and no lock is held while the engine runs.
//   - The engine reaches nothing but the host program, and what the command that
//     runs names, for no more than it does there.
//   - When a command's end is seen, its pins are gone.
//   - A reset lets nothing of before it be seen, nor does the next Open.
//   - Nothing that Load is given leads to a state that a guest could not bring
//     about.
//
// # Lock order
//
//	Device.mu
//	  the locks of the configuration space, of BAR 2 and of the pinner
//
// # Out of scope
//
// Descriptors in guest memory, which other mediators fetch through their job; an
// eventfd in place of the doorbell, which could not take its parameters with it.
package demo
