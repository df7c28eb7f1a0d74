// Package reg makes emulated registers from one table, which the code, the
// documentation and the tests share: offset, width, name, value after reset,
// and for each bit who may change it.
//
//	bank, err := reg.New(0x10, []reg.Reg{
//		{Offset: 0x0, Width: 4, Name: "ID", Reset: 0x1234},
//		{Offset: 0x4, Width: 2, Name: "control", Write: 0x0003, Order: 0x8000},
//		{Offset: 0x6, Width: 2, Name: "status", W1C: 0x0001, Live: 0x0002},
//	}, written)
//
// Software's accesses are Read and Write, of any length and alignment; the
// device's are Get and Put, of a register. What Write did to a register, the
// device is told.
//
// # Invariants
//
//   - A bit that is in none of Write, W1C, Order and Live has its Reset value
//     for ever.
//   - Software changes bits of Write, clears bits of W1C where it writes 1, and
//     changes nothing else; the device changes bits of Write, W1C and Live.
//   - Bits of Order read as 0.
//   - Bytes between registers read as 0 and ignore writes.
//   - A write that spans registers is one write to each, in ascending order.
//
// # Concurrency
//
// A bank has no lock. Its owner serialises all calls, and may call Get, Put and
// Reset while it is told of a write.
//
// # Out of scope
//
// Registers whose value is made when they are read, windows into memory, byte
// orders other than little-endian: a device answers those itself.
package reg
