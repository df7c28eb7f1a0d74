// Package engine is the DMA engine of the demo device: emulated hardware. It
// reaches memory only through package iommu, by host addresses, and knows
// nothing of guests, of translation or of pins.
//
// It runs a program that lies in memory: a header and a list of segments for
// what it reads, one for what it writes. What it reads it takes whole into a
// buffer of its own before it writes the first byte, so source and destination
// may overlap, and a source at fault leaves the destination as it was. A
// destination at fault may be written in part.
//
//	offset  size  header
//	0x00    4     operation: 1 copy, 2 fill, 3 checksum
//	0x04    4     value of a fill
//	0x08    4     segments to read
//	0x0c    4     segments to write
//	0x10          segments, 16 bytes each: u64 host address, u64 length
//
// All little-endian. Segments have at least one byte, those of a list together
// at most [MaxBytes], and a copy writes as many bytes as it reads.
//
// # Invariants
//
//   - No byte outside the program and the segments is read or written: a
//     program that is not of this form does nothing.
//   - Between two accesses to memory, of at most [Chunk] bytes each, the engine
//     asks whether it may go on.
package engine
