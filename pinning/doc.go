// Package pinning leases pages of a store to programs: it charges them against
// the memory-lock limits, puts them in reach of the program's device, keeps
// the ledger of who holds what, and drains the holders when the pages are to
// be unmapped. It mirrors vfio_pin_pages, vfio_unpin_pages and the dma_unmap
// notification of Linux (drivers/vfio/vfio_iommu_type1.c).
//
//	lease := owner.Begin(program)
//	pin, err := lease.Pin(iova, n, addr.Read) // all of it or an error
//	... pin.HPA() into the host program, hardware runs it ...
//	lease.Release()                           // cannot fail, may be repeated
//
// # What a pin is, and is not
//
// A pinned page is held alive and charged by us. As long as the lease lasts,
// the store does not let the mapping go, so the memory behind the page stays
// mapped in this process, and the device reaches it at the address of its
// [Pin]. It is no pin against the kernel, which a process has no means to do:
//
//   - With the [Emulated] backend pages may be swapped out, moved or merged.
//     Emulated hardware, which copies through the process's page tables,
//     cannot tell. Host addresses are synthetic.
//   - With the [Locked] backend mlock2 keeps pages in memory. The kernel may
//     still move a locked page to another frame (compaction, NUMA balancing),
//     so a frame number from /proc/self/pagemap says where the page was when
//     it was pinned. It must never be given to real hardware. Two pins that
//     were told the same number, be it for a shared page or because one moved
//     out of the frame that the other moved into, keep apart: the second one
//     gets a synthetic address.
//   - In neither is the memory safe from a peer that shares it and truncates
//     the file: then the device's access fails (errs.ErrFault), and with
//     Locked the pin may.
//
// RLIMIT_MEMLOCK bounds what we charge, in both, privileged or not.
//
// # Invariants
//
//   - A device reaches a page only under a lease of one of its owners, and
//     with no more than the accesses under which leases hold it.
//   - A page is charged once while anybody holds it, by its address in the
//     store (two mappings of one memory are two pages, as in type1), and not
//     at all when nobody does. What [Pinner.Forecast] says is what pinning
//     then charges.
//   - A Pin holds all of its range, or nothing and nothing was within reach
//     in between. After a failed PinEach nothing of the list is held.
//   - When Release returns, the charge is back and no hardware is in a frame
//     that only this lease held. A Release that comes twice, or late, does
//     nothing, even if the lease's place serves another program by then.
//   - An unmap waits for every lease that holds any page of its range, not
//     only the first page, and for hardware inside; new pins in the range are
//     refused meanwhile. Past the deadline it fails with a [*HeldError] that
//     names owner and program, and everything is as before. Nothing here
//     panics, retries without end or waits without a bound on a guest's or a
//     client's behalf. (An owner's cancel callback that never returns blocks
//     [Pinner.Close] alone.)
//   - A mapping that replaces another gets other frames: a pin from before an
//     unmap names nothing afterwards.
//   - Pages held for writing are in the dirty log when they are pinned, after
//     each time the log is cleared, and when they are released.
//   - A pin of pages that the owner has held before allocates nothing, nor
//     does its release. (A range over several mappings costs one allocation;
//     so does a page that was long not held: what is kept of pages that nobody
//     holds is bounded.)
//
// # Errors
//
//	no mapping                             errs.ErrNotMapped     EINVAL
//	mapping allows less                    errs.ErrPermission    EPERM
//	mapping suspended                      errs.ErrSuspended     EBUSY
//	range is being unmapped                errs.ErrBusy          EBUSY
//	over a limit                           errs.ErrMemlock       ENOMEM
//	locking memory that is gone            errs.ErrFault         EFAULT
//	locking remote memory                  errs.ErrNotSupported  EOPNOTSUPP
//	no bytes, no access                    errs.ErrInvalid       EINVAL
//	past 2^64                              errs.ErrOverflow      EOVERFLOW
//	lease released, owner or device gone   errs.ErrGone          ENODEV
//	unmap of what is held                  *HeldError            EBUSY
//
// type1 refuses every pin with EBUSY while any mapping of the container is
// suspended; here only pins that touch a suspended mapping are refused.
//
// # Lock order
//
//	the store's operation lock (Unmap, Suspend; calls Drain and Done)
//	  Pinner.mu         everything here; held for tens of nanoseconds, with
//	                    Locked for the system calls as well
//	    locks of the store's log and reader list (MarkDirty, NewReader)
//	    locks of package iommu
//	  Pinner.farMu      leaf
//
// Owners are told of an unmap with no lock held, each on a goroutine of its
// own. One mutex serves all owners of a store, because a pin is shorter than
// what finer locks would cost it.
//
// # Out of scope
//
// Limits across processes or per user; locking in huge pages; memory that the
// kernel would not let a driver pin is not told from memory it would.
package pinning
