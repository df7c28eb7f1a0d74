// Package translatetest is what a test of the store, or of anything above it,
// needs: a slow store that is obviously right, memory that misbehaves, and a
// check for the end of every test.
//
//   - [Model] is the reference store: a sorted slice and one paragraph per
//     rule, with the errors of the store. Random tests and fuzzers compare the
//     store with it after each step; it is never fast and never concurrent
//     (one mutex around everything).
//   - [Flip] is remote memory whose bytes change when an address is read
//     again, and which remembers that it was. A mediator that fetches a guest
//     byte twice computes a different result over it, and DoubleFetches names
//     the byte.
//   - [Tee] records every access to the memory under it and can fail the n-th.
//   - [Check] ends a test with the store's own consistency check.
//
// The sources of the Model's rules are the tables A2 to A5 of the type1
// contract, checked against drivers/vfio/vfio_iommu_type1.c of Linux 7.0 or
// later; where the two disagree the Model follows the kernel and the comment
// says so.
//
// Out of scope: what mediators do with memory, and pins (package pintest).
package translatetest
