// Package recording reads and writes the recordings that every mediator
// replays: JSON Lines, one submitted program a line, plain or compressed
// (gzip, zstd; recognised by content). A line says what the guest submitted,
// the memory that the program named, what the hardware did and what the guest
// got back.
//
// Spec: "Channel-program recordings: format and provenance", version 1, for
// channel programs. The envelope (v, kind, scenario, seq) is common to all
// mediators; a line without kind is a channel program.
//
// Invariants:
//
//   - The reader is strict. An unknown field or version, a field given twice,
//     a value of the wrong form, overlapping segments, a cut-off file: each is
//     one error that names the file, the line and the field.
//   - Reading takes bounded memory, whatever the file holds: a line, the
//     memory image of a record and a whole file have limits ([Limits]), which
//     are compared before anything is allocated. A run of one byte (fill) is
//     never expanded.
//   - What was read and is written again reads as the same record.
//   - A [Recorder], which writes what live devices do, leaves whole records
//     however it ends, and never more than a reader takes.
//
// Out of scope: the I/O instruction logs beside the recordings
// (*.events.jsonl*); [Find] leaves them out.
package recording
