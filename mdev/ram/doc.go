// Package ram is the memory behind a region of a device: memory that traps, or,
// on Linux, a file that a VMM may map ([mdev.RegionInfo.Memory]).
//
// # Invariants
//
//   - A client that has the file cannot make this process fault, nor change the
//     size: the file is sealed, and is reached with read and write calls.
//   - After Renew nobody who had the memory before, mapped or not, shares
//     anything with who gets it then. The *os.File, and its descriptor, stay the
//     same for the life of the memory.
//   - After Wipe and Renew every byte reads as 0.
//
// All methods but Close may be called from any goroutine. Accesses that overlap
// in time, and those of a VMM that has mapped the file, are as with any shared
// memory: bytes of one and of the other.
//
// # Out of scope
//
// Huge pages, and knowing what a VMM has written to memory that it maps.
package ram
