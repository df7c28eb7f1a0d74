// Package replay runs recordings against the mediator and compares what comes
// of them with what was recorded.
//
// For each record it fills the memory of a guest with poison and the record's
// start image, gives the guest's ORB to a mediated device, takes the status as
// the guest would (an interruption is answered at once), and compares SCSW,
// ESW, ECW, IRB and every byte of guest memory: only bytes that the record
// lists as stored may differ from the start image. The hardware behind the
// mediator is a model in the state that the programs before left it in, or
// plays the device side of the recording.
//
// The device stands behind its mediator in this process, or is served over
// vfio-user with the regions of vfio-ccw ([Options].Via, [Options].Sockets): then
// the guest's I/O instructions go the way that a VMM's do, and the comparisons
// are the same.
//
// # What counts as equal
//
//   - Status words are equal bit for bit.
//   - Of guest memory, every byte of every page that the start image, the
//     expected stores or the program's input areas touch is compared after
//     each program; the rest is compared after the last one of a scenario, by
//     what the kernel says was written, and a stray store found then is
//     attributed by running the scenario again.
//   - An access of the hardware outside what was pinned is a failure, whatever
//     came of it.
//   - Differences that a [Rule] or the operator's list explains are expected.
//     A rule corrects the expectation to what the architecture says; what
//     differs from the corrected expectation is a failure.
//   - A record without status or memory to compare with is never passed.
//
// # What is timed
//
// [Work] has two times. RunNS is from START (or RESUME) SUBCHANNEL to the
// status: fetch, translate, pin, write the host program, execute, move the
// data, translate the status back, release. AllNS adds loading the start
// image, comparing memory and making it poison again. Reading the file and
// grouping a record's trace are in neither.
//
// # Limits
//
// Storage keys are not modelled. Sense that a device holds after a program
// without concurrent sense is compared when a program asks for it, not before.
// A program that HALT or CLEAR SUBCHANNEL ended is stopped where the record shows
// it: behind its last operation if that ended, else when as many bytes of it had
// moved as the status, or memory, tell. Where a device in another process is to
// be stopped nobody can tell.
//
// Over vfio-user there is no RESUME SUBCHANNEL: a record of a resumed program is
// started at the CCW at which it was suspended. An ORB has 12 bytes there, and
// the PMCW is the device's own.
//
// Specification: "Channel-program recordings: format and provenance" and the
// CCW fact sheet, sections 9 and 10. A [Scenario] is used by one goroutine.
package replay
