// Package wire holds the layouts of the vfio-user protocol: what stands at
// which offset of which message, and nothing of what it means.
//
// Decoding is total: a fixed structure decodes from an array of exactly its
// length, every pattern is accepted, unknown flags are kept, and
// Append(nil) of what was decoded gives the same bytes back. Whether a value is
// acceptable is for the receiver to decide (package vfiouser). Lengths that a
// peer claims (counts, sizes) are plain numbers here; nothing in this package
// allocates by them.
//
// # Byte order
//
// Integers are in the byte order of the host, as docs/interop/vfio-user.rst
// has it: both ends run on one machine, and all data is in its endianness. This
// is the one package of the module that uses binary.NativeEndian.
//
// # Specification
//
//   - QEMU docs/interop/vfio-user.rst: the protocol
//   - QEMU hw/vfio-user/protocol.h: what its client does
//   - libvfio-user include/vfio-user.h: the same, and extensions (dirty bitmap
//     at unmap, migration data)
//   - Linux include/uapi/linux/vfio.h: flags, capabilities and states that the
//     protocol takes over by reference
//
// The package is a leaf.
package wire
