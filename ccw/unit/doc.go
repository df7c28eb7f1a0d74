// Package unit holds emulated unit-record and operator devices, hardware as
// the channel subsystem of ccw/channel sees it:
//
//	[Console3215]   3215 console printer-keyboard
//	[Reader]        3505 card reader
//	[Printer]       1403 line printer
//	[Tape]          3420, 3480, 3490 and 3590 tape drives
//	[Display3270]   3270 display of one screen size
//
// Each is a channel.Device that knows the commands of its type, rejects the
// others, and ends every command with the status, the residual count and the
// sense bytes that the device's documents, Linux drivers/s390/char and, where
// those say nothing, SDL-Hyperion and the recordings agree on. The comment on
// each type names its documents and what it leaves out.
//
// # Common rules
//
//   - A command that moves no data is immediate: the channel does not look at
//     its address, and its count stays. A read that finds nothing to read, as
//     a tape mark, is not immediate.
//   - A unit check leaves sense bytes until the channel (concurrent sense) or
//     a BASIC SENSE takes them, or the next unit check replaces them.
//   - When the channel ends a transfer with a check, the device does not act
//     on what came: nothing is printed or written to the tape. If not a byte
//     moved, nothing was read either: card, line and block stay.
//   - Whatever a program sends, memory and work stay in proportion to it: a
//     tape has a capacity, a console a limited queue, a display one screen.
//
// # Concurrency and locks
//
// A device is used by one subchannel, one command at a time. What the operator
// does - type, press a key, put in cards or a tape - may come from any
// goroutine. A device that both sides share has one lock, a leaf. Tape, reader
// and display hold it during a command, so that the operator waits for the
// command to end. It is held during no callback and no output, with one
// exception: a [Reader] reads its deck under it.
//
// # Out of scope
//
// Commands of device diagnostics; statistics and logs beyond zeros; more than
// one path to a device.
package unit
