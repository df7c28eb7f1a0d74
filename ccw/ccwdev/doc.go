// Package ccwdev is a channel-attached device for a VMM: a mediator of package
// ccw in front of an emulated control unit, with the regions and interrupts of
// vfio-ccw, as a device of package mdev.
//
//	VMM: SSCH, HSCH, CSCH, STSCH          mdev.Session
//	  regions.go of package ccw           states of vfio-ccw
//	    mediator (package ccw)            fetch, translate, pin, write
//	      worker                          one goroutine of a device that is open
//	        channel subsystem, unit       hardware
//
// # What a VMM finds
//
//	region 0  io      124 bytes rw   ORB, SCSW, IRB, return code
//	region 1  async     8 bytes rw   halt, clear           type 2, subtype 1
//	region 2  schib    52 bytes r    STORE SUBCHANNEL      type 2, subtype 2
//	region 3  crw       8 bytes r    channel reports       type 2, subtype 3
//	irq 0 io, 1 crw, 2 device request: one eventfd each
//
// RESUME and CANCEL SUBCHANNEL have no region, as with vfio-ccw; a guest that
// asks for suspension ends it by a halt or a clear.
//
// A write to region 0 returns when the program has been fetched and translated
// and hardware has it, or with the errno for which it was refused, which stands
// in the return code too. Only where some of the guest's memory is reached by
// messages does it return at once, and a refusal is then told by an interrupt
// (ccw.Regions.Defer): who answers the messages may be waiting for the write.
//
// # Types
//
//	ccw-3390   ECKD volume on a CKD image    image=PATH, readonly=on|off
//	ccw-fba    3370 volume on a raw image    image=PATH, readonly=on|off
//	ccw-3215   console printer-keyboard      output=PATH, input=PATH
//	ccw-3505   card reader                   image=PATH, cards of 80 bytes
//	ccw-1403   printer                       output=PATH
//	ccw-3490   tape drive                    image=PATH in AWSTAPE format, readonly=on|off
//
// all with devno=HEX and byte-order=big|little, the order of the VMM's host if
// that is another one: QEMU writes ORB and SCSW as structures of its host.
//
// # Invariants
//
//   - What a volume holds, and where a tape stands, outlives its users; what a
//     user did to the subchannel, and reservations and path groups of the
//     system behind it, do not.
//   - An image has one device: it is locked as long as the device exists, and
//     one that is locked is refused with errs.ErrBusy. Read-only devices share.
//   - After Close nothing runs, nothing is pinned, and the attachment is not
//     used any more. A program that ran was cleared, and recorded as such.
//   - While quiesced no program is fetched or executed; those that are asked
//     for wait.
//   - A recorder sees each program that hardware took, once, whole, in order,
//     before the guest hears that it has ended.
//
// # Locks
//
//	Device.mu      what is open, and what the unit wants to tell
//	worker.mu      what is to be run; a leaf
//
// Neither is held while the mediator or the recorder is called.
//
// Specification: linux/include/uapi/linux/vfio_ccw.h, vfio.h;
// Documentation/arch/s390/vfio-ccw.rst; drivers/s390/cio/vfio_ccw_*.c.
//
// # Out of scope
//
// Migration: vfio-ccw has none. Several paths, measurement.
package ccwdev
