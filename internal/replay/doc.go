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
// A program that HALT or CLEAR SUBCHANNEL ended is stopped when its last
// recorded operation begins.
//
// Specification: "Channel-program recordings: format and provenance" and the
// CCW fact sheet, sections 9 and 10. A [Scenario] is used by one goroutine.
package replay
