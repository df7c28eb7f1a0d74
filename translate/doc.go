// Package translate is the type1-compatible store: it maps I/O virtual
// addresses to memory of this process by the rules of the Linux type1 IOMMU
// (drivers/vfio/vfio_iommu_type1.c), and answers where an address leads many
// orders of magnitude more often than it changes.
//
// A [Store] is changed by Map, Unmap, Suspend, Resume and Apply, one at a time.
// It is read through a [Reader], one per worker, in sections:
//
//	r.Enter()
//	run, ok := r.Lookup(iova)
//	... use run.HVA, or r.Read and r.Write ...
//	r.Exit()
//
// # Invariants
//
//   - No access after Unmap returns. A mapping vanishes for all readers in one
//     moment, then Unmap waits for the sections that were open. What a section
//     found may be used until it ends and not after.
//   - All or nothing. A mapping appears and vanishes whole, a batch too, a
//     range of an unmap too; an access over several mappings sees them at one
//     moment. An operation that fails has changed nothing, and a reader may
//     have seen it only as something that was taken back.
//   - Unmap wins in bounded time or fails. Holders (pins) are asked to let go
//     first; past the deadline it is errs.ErrBusy with the name of who stays,
//     and the store, its dirty log included, is as it was.
//   - Readers take no lock and allocate nothing; neither does an Unmap and Map
//     in steady state.
//   - Work and memory are bounded by what is mapped, not by the size of a
//     range: one mapping of 2^64-4096 bytes is some hundred slots. The index
//     takes 32 bytes a mapping and, where mappings lie close, 4 bytes a page;
//     in the worst layout two tables of 2 KiB a mapping below 2^48 and five
//     above. It does not shrink.
//   - Mappings of one file share what is mapped of it: 65,535 mappings of
//     single pages are one area of the process's address space, and no
//     descriptor. An area goes when no mapping needs it. So Unmap ends every
//     access through the store, always; that the addresses are gone too holds
//     for the last mapping of the file. The areas and the address space of
//     all files are bounded (Config).
//   - Memory that vanishes (a peer truncates the file it shared) is
//     errs.ErrFault for the access that touched it, never a signal. Guarded
//     copies cost about 5 ns more; [Bytes] is not guarded.
//   - Every byte of an access is fetched or stored once.
//   - A dirty bit is reported now or next time, never lost.
//
// # Errors
//
// The contract is that of type1; it is executable in contract_test.go. Errors
// of Map, Unmap, Suspend, Resume and DirtyGet carry the address they are
// about. The order is the order of the checks.
//
//	Map      n = 0                                        ErrInvalid      EINVAL
//	         iova+n or memory+n passes 2^64               ErrOverflow     EOVERFLOW (1)
//	         no access, unknown access bit                ErrInvalid      EINVAL
//	         iova, n or address of the memory misaligned  ErrMisaligned   EINVAL
//	         memory shorter than n, no memory             ErrInvalid      EINVAL
//	         overlaps a mapping                           ErrExists       EEXIST
//	         no entry left                                ErrNoSpace      ENOSPC
//	         not wholly in one valid range                ErrOutsideRange EINVAL
//	         a File is not open, or not for the access    EBADF, EACCES
//	         a File is sealed against it                  EPERM
//	         no area or address space left for a File     ErrNoSpace      ENOSPC
//	         mmap of a File fails otherwise               its errno
//	         store is closed                              ErrGone         ENODEV
//	Unmap    iova misaligned                              ErrMisaligned   EINVAL
//	Suspend  n = 0                                        ErrInvalid      EINVAL
//	         n misaligned                                 ErrMisaligned   EINVAL
//	         iova+n passes 2^64                           ErrOverflow     EOVERFLOW (1)
//	         v2: the range cuts a mapping                 ErrBisects      EINVAL
//	         v1: the range starts inside a mapping        none, size 0
//	         nothing there                                none, size 0
//	         Suspend: one is suspended already            ErrInvalid      EINVAL
//	         a holder or a section does not let go        ErrBusy         EBUSY (2)
//	Resume   as Map up to the alignment, then
//	         no mapping there                             ErrNotFound     ENOENT
//	         other extent, or not suspended               ErrInvalid      EINVAL
//	Dirty*   v1 store                                     ErrNotV2        EACCES
//	DirtyGet n = 0                                        ErrInvalid      EINVAL
//	         iova+n passes 2^64                           ErrOverflow     EOVERFLOW (1)
//	         page size none, or below the smallest        ErrInvalid      EINVAL (3)
//	         iova or n no multiple of it                  ErrMisaligned   EINVAL
//	         bitmap too short or above 2^31 bits          ErrInvalid      EINVAL
//	         log off                                      ErrInvalid      EINVAL
//	         the range cuts a mapping                     ErrBisects      EINVAL
//	Read     no mapping                                   ErrNotMapped    EINVAL
//	Write    access not allowed                           ErrPermission   EPERM (4)
//	Check    suspended                                    ErrSuspended    EBUSY (5)
//	         iova+n passes 2^64                           ErrOverflow     EOVERFLOW
//	         memory is gone, remote error                 ErrFault        EFAULT
//
// (1) Since the overflow series of Linux 6.19; EINVAL before. (2) type1 calls
// the mediators again and, after ten tries, BUG. Suspend it refuses with EBUSY
// whenever a mediator is present. (3) type1 takes the smallest page size only.
// (4) type1 asks for READ as well when it writes for a mediator; here a write
// needs Write. (5) type1 refuses all accesses while anything is suspended;
// here those that touch it. The kernel's size 2^64 that UnmapAll cannot
// express comes out as 0 in both.
//
// # Lock order
//
//	an operation (one at a time, Store.busy)
//	  holders' methods            called with no lock held
//	  waiting for sections        with no lock held
//	  Store.mu                    the writer's state; also taken by reports,
//	                              MarkDirty, NewReader and Reader.Close
//
// Inside a section and inside a holder's method everything may be called but
// what changes the mappings or the set of holders, DirtyStart, DirtyStop and
// Check: those wait for the operation that waits for them.
//
// # Out of scope
//
// Charging and locking memory (package pinning), what hardware may reach
// (package iommu), ioctl and message layouts beyond the capability chain of
// GET_INFO ([Info.AppendCaps]), and IOMMU domains: as in a container that
// holds mediated devices only, nothing is pinned when it is mapped.
package translate
