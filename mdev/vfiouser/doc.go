// Package vfiouser is the vfio-user protocol: a [Server] gives a device of
// package mdev to a VMM over a UNIX socket, a [Client] is the VMM's end of one.
// The layouts are package wire's.
//
//	s, err := vfiouser.NewServer(vfiouser.OpenDevice(dev), nil)
//	err = s.ListenAndServe(ctx, "/run/softmdev/demo.sock")
//
// # Specification
//
//   - QEMU docs/interop/vfio-user.rst, version 0.1
//   - libvfio-user include/vfio-user.h, for what its server adds: the dirty
//     bitmap of DMA_UNMAP, the MMAP and FILE_IO bits of DMA_MAP
//   - Linux include/uapi/linux/vfio.h, for what the protocol refers to
//
// Every command is served, those included that QEMU 11.1 does not send:
// DMA_READ and DMA_WRITE for memory without a file, twin sockets,
// REGION_WRITE_MULTI, GET_REGION_IO_FDS, DEVICE_FEATURE with migration and DMA
// logging, MIG_DATA_READ and MIG_DATA_WRITE.
//
// # The server's invariants
//
//   - Commands are executed one at a time, in the order in which they came, and
//     each is answered once and in that order, or with NO_REPLY not at all.
//   - DMA_UNMAP is answered when nobody uses the memory any more, or fails with
//     EBUSY within the store's deadline, with the holder's name in the log, and
//     nothing is unmapped.
//   - A request that is wrong is an error reply, and the session goes on: an
//     unknown flag, a payload of another length than the text has, a field that
//     must be zero and is not, an argsz below what it has to cover, files that
//     are too many or missing. Where framing is lost - a size below 16 or beyond
//     the limit, a message that is neither command nor reply, more files than
//     fit - the connection ends, after an error reply where one has an address.
//   - Each file received is taken over by the device model or closed before
//     the reply.
//   - What a client can make the server allocate is bounded before it is
//     allocated: a message by ServerConfig.MaxData, mappings by MaxMaps, waiting
//     commands by MaxQueue and twice a message, files that wait by 64, bitmaps
//     by MaxData, accesses by message by 1024.
//   - A client that stops in the middle of a message, or does not take what is
//     sent, is lost in bounded time; one that does not answer DMA_READ or
//     DMA_WRITE fails that access, as one that truncates its memory does.
//     Between messages it may idle for ever.
//   - When a client is gone, however, its session is closed: no lease, charge,
//     mapping, descriptor or goroutine of it is left; the device keeps its
//     state, and the next client is served.
//   - The serving goroutine is locked to its thread. From the receive to the
//     send of a register access there is no other goroutine, and no allocation.
//
// # Memory without a file
//
// Such mappings are translate.Remote: an access becomes DMA_READ or DMA_WRITE,
// in pieces of the client's max_data_xfer_size, on the twin socket where that
// was negotiated. Otherwise the answers come between the client's commands, and
// whoever waits for one receives for all while the serving goroutine is busy;
// commands that come so wait their turn. See type demux.
//
// The rule of the protocol remains: a device must not wait, inside a region
// access, for DMA that it starts. QEMU answers DMA_READ on its main loop, which
// may be waiting for the reply to that very access. The server could live with
// it, QEMU not.
//
// # Differences to libvfio-user
//
// docs/vfio-user.md lists where its server answers otherwise, and why; each
// entry is a row of the conform tests. What an application may trip over: a map
// over an existing range is EEXIST (the text's) and never a success; an unmap
// takes one or more whole mappings (type1's rule, which QEMU with an IOMMU of
// its own relies on), nothing or a part is ENOENT; addresses are page aligned;
// surplus files and bytes are errors rather than dropped (the NVMe driver of
// SPDK sends a file with DMA_UNMAP, and the whole buffer of the reply with
// GET_REGION_INFO); a message of a bad size ends the connection.
//
// # Lock order, of the server
//
//	Server.mu       which client there is
//	demux.mu        who receives; not held while somebody does
//	  conn.closeMu  whether the descriptor is still ours
//	conn.sendMu     one message at a time; held while the peer takes it
//
// # Out of scope
//
// Transports other than UNIX sockets; multiplexing; ioregionfds and shadow
// ioeventfds. A client can hand over a file of a file system that it serves
// itself (FUSE), and have whoever touches, maps or closes it wait for as long
// as it likes: the server's other devices go on, but its own device, and the
// end of its connection, do not. The package builds on Linux; elsewhere it is
// empty.
package vfiouser
