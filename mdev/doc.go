// Package mdev is the device model of VFIO, whatever the front end: the
// vfio-user protocol (package vfiouser), the kernel's ABI, or a VMM in this
// process.
//
// A mediator or an emulation implements [Device]. A VMM, or the front end that
// speaks for it, holds the device through a [Session], which has the rest:
// regions and who may access them when, the DMA mappings and pins, interrupts,
// the life cycle, migration, the dirty log, ioeventfds, numbers about it all.
//
//	s, err := mdev.Open(ctx, dev, &mdev.SessionConfig{Name: "vm1"})
//	err = s.Map(0, ramSize, translate.File(memfd, 0), addr.ReadWrite)
//	err = s.SetIRQs(mdev.IRQRequest{...})
//	err = s.Write(ctx, mdev.BAR0, 0x2c, command)
//	err = s.Close(ctx)
//
// # Specifications
//
// Linux: include/uapi/linux/vfio.h for names, numbers and states;
// drivers/vfio/vfio_main.c for migration (vfio_mig_get_next_state) and dirty
// logging (vfio_ioctl_device_feature_logging_*); drivers/vfio/pci for
// interrupts (vfio_pci_intrs.c), accesses (vfio_pci_rdwr.c) and ioeventfds
// (vfio_pci_core.c). The vfio-user protocol where it goes beyond them. Where
// this package differs it says so, with the reason, at the method: a second
// disable of interrupts, the replacement of an unmask eventfd, accesses in
// STOP_COPY and RESUMING.
//
// # Invariants
//
//   - A device sees checked requests only: an index that exists, bytes inside
//     the region, a direction that the region has, a state that takes it.
//   - Reset, quiesce, migration steps and closing exclude region accesses, and
//     each other. What an access finds is a device that is in one state.
//   - While a device is quiesced, by the VMM or by a migration state, no
//     interrupt reaches the VMM, whoever raised or unmasked it: it waits. DMA
//     is the device's to stop; see [Quiescer].
//   - An interrupt that is raised while its index is enabled is delivered or
//     pending, never lost; [IRQs.Trigger] does not block and allocates
//     nothing, whatever the client does with its eventfd.
//   - Every descriptor that comes in belongs to the session from the call on:
//     it is closed when the request is refused, when it is replaced or
//     disabled, and at the end. Nothing is written to, or read from, a
//     descriptor that is not an eventfd.
//   - The dirty log loses no bit, also not of memory that is unmapped. Where
//     its size is bounded it reports too much.
//   - A migration stream is never held as a whole: what a device may be ahead
//     of its reader is 64 KiB.
//   - When [Session.Close] returns without errs.ErrDeadline, no lease, charge,
//     mapping, descriptor or goroutine of the session is left. It may be called
//     at any time, in the middle of everything else.
//
// # States
//
// [State] is the life cycle, [MigState] migration: each has its diagram, and a
// table of all its transitions in the tests.
//
// # Errors
//
// They wrap the sentinels of package errs, with what was asked and why it was
// refused; the methods list theirs. A request that the state does not take is
// errs.ErrState, and errs.ErrGone once the session closes. Waits end with
// their context (and after SessionConfig.Drain if that has no deadline):
// errs.ErrDeadline.
//
// # Lock order
//
//	Session.gate          a readers-writer lock: region accesses shared; reset,
//	                      quiesce, migration steps, the device's end exclusive.
//	                      Held while the device is called.
//	  migration.mu
//	    outStream.mu      leaf
//	  IRQs.mu             never held while an interrupt is delivered
//	    ioEvents.mu
//	      watcher.mu      never held while what was watched for is done
//	deviceLog.mu
//	  locks of the store  (translate); they are also taken by Map and Unmap, with
//	                      nothing of a session held
//	    dirtySet.mu       leaf
//
// Interrupts take no lock: a line that is replaced while it is signalled is
// counted. Functions of [IRQs.Func] and writes by eventfd are called with none
// held but, in the middle of an access, the gate shared.
//
// So a device may raise interrupts, pin and use the store from anywhere, but
// must not call its own session. [Session.Unmap] waits for the device to let
// go of memory, so it must not be called from an access either; front ends
// that process requests in order do not.
//
// # Out of scope
//
// Which devices exist and who may have them (package registry), configuration
// space (package pci: a region to this one), layouts of messages and ioctls
// (vfiouser/wire), and the interrupt controller behind an eventfd.
package mdev
