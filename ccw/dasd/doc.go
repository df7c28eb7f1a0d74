// Package dasd is an emulated direct-access storage device: an ECKD 3390
// volume behind a 2107 control unit. It is hardware. It sees no guest memory;
// all it knows of the program that drives it is the sequence of commands and
// the bytes that a [channel.Transfer] moves for it.
//
// # Sources
//
//   - GA32-0274, IBM 3990/9390 Storage Control Reference: commands, define
//     extent, locate record domain, sense.
//   - GC26-4574, Using IBM 3390 Direct Access Storage in an MVS Environment:
//     geometry, track capacity.
//   - The recordings under testdata/ccw, which are what a real guest saw of the
//     control unit that this one imitates. Where the books leave a choice, the
//     recordings make it: identification, features, sense bytes.
//
// # The pieces
//
//	Image    where the tracks are: Memory (copy on write), File (write-through)
//	Volume   the device: Begin, Execute, Sense, Reset of channel.Device
//	Cells    how much fits a track
//
// A track is a slot of [SlotSize] bytes: home address, then records of count,
// key and data back to back, then eight bytes FF. The volume walks it in place
// and edits it in place; an image in memory keeps changed tracks without their
// zeros.
//
//	command   the command table: where a command may stand, what it keeps
//	volume    one command: may it come here, run it, take it off the domain
//	extent    file mask, extent, seeks       locate   the domain of commands
//	position  the head on its track          read, write, search
//	control, subsystem                       the device as a whole
//
// # Invariants
//
//   - Every byte of a slot is hostile: a count field that points past the slot
//     ends the command with unit check, never with a panic.
//   - Parameters are decoded from a copy that was fetched once.
//   - A write whose data transfer the channel broke off changes nothing.
//   - When the image fails, the guest gets an equipment check, [Volume.Err]
//     tells why, and the next program starts afresh.
//   - A track always ends in an end marker, whatever was written.
//   - Every command ends: none looks at more records than a track holds, nor
//     at more tracks than its extent.
//
// # Concurrency
//
// A Volume belongs to one subchannel, which runs one program at a time; it has
// no lock. [Volume.SystemReset] must not run beside a program.
//
// # Out of scope
//
// Track overflow (a 3390 has none), alternate tracks, parallel-access volumes,
// copy services, transport mode, and images in compressed or split form
// (refused by name). A guest that asks for what is missing gets command
// reject, as from a control unit without the feature.
package dasd
