// Package channel emulates the channel subsystem: it runs channel programs on
// a device, and answers the I/O instructions of one subchannel. It is hardware:
// every address it names is a host-physical one, and it reaches memory only
// through the [Memory] it was given, which in a mediated device is the device's
// iommu domain.
//
// Specification: z/Architecture Principles of Operation, SA22-7832, chapters
// "I/O Overview", "I/O Instructions", "Basic I/O Functions" and "I/O
// Interruptions". Where the book leaves a result open, the recordings of
// testdata/ccw decide, and the comment says so.
//
// What is interpreted: CCW formats 0 and 1; direct data, IDAWs of format 1 and
// 2 with 2 KiB and 4 KiB blocks, MIDAWs; data chaining, command chaining,
// transfer in channel, status modifier, SKIP, SLI, PCI, suspend and resume,
// zero counts, read backward, initial-status interruption, address-limit
// checking, incorrect length, concurrent sense.
//
// # Invariants
//
//   - CCWs and list words are fetched one at a time, each once, when execution
//     reaches them. An error in a CCW that is never reached is never reported,
//     and a program may change what it has not reached yet. The prefetch
//     control of the ORB is a permission, of which no use is made.
//   - The data address of a CCW is not looked at before the device moves the
//     first byte of it. An immediate operation has none.
//   - Memory is touched at the bytes that move, at CCWs and at list words, and
//     nowhere else.
//   - A program does a bounded amount of work between two calls of the work
//     meter, Config.Steps, provided its device moves a bounded amount of data
//     in one operation.
//   - A program in a steady state allocates nothing.
//
// # Checks
//
// A check that is found in a CCW itself, before the device got to move data,
// leaves the device status zero: the operation was not begun as far as the
// program is told. One that is found while data move ends the operation, and
// the device status is the one with which the device ended. Data addresses of
// a direct CCW count as found in the CCW, those of IDAWs and MIDAWs as found
// while data move. A program check leaves a count of zero - the count is
// unpredictable then [GA22-7000, "Contents of the Count Field in the CSW"] -
// and every other ending the number of bytes that did not move.
//
// An error of the memory becomes a check: [errs.ErrReach], [errs.ErrNotMapped]
// and addresses that cannot be are program checks, [errs.ErrPermission] is a
// protection check, anything else, as [errs.ErrFault], a channel-data check.
//
// # Concurrency and locks
//
// All methods of a [Subchannel] but Close may be called from any goroutine,
// also from within Interrupt and from a device. One goroutine at a time serves
// a subchannel: it runs the functions that are pending, and it alone touches
// the device and the program state. The only lock is
//
//	Subchannel.mu    status and pending functions; a leaf
//
// and it is held during no call of a Config function, the memory or the
// device. Halt and clear end a running program at the next CCW, list word
// or page of data.
//
// # Out of scope
//
//   - Transport mode: [CheckORB] refuses the ORB.
//   - Storage keys. The key of the ORB is accepted and given back in the SCSW;
//     no storage has a key here, so that no key mismatches. A memory that
//     refuses with ErrPermission gives the protection check.
//   - Channel measurement: the modes can be set and read back, nothing is
//     measured, and the ESW is always of format 1.
//   - Streaming, modification and synchronisation control, subchannel priority:
//     accepted, no effect.
//   - The data-transfer-interruption flag of a MIDAW, a feature of some models:
//     a program check, as where it is not installed.
//   - More than one working path. The first path that the masks allow is used.
package channel
