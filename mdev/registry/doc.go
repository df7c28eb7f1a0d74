// Package registry holds what exists: parents, the types of device they
// offer, the devices made of them, and groups. It is what sysfs and mdev are
// in the kernel, and the only place that decides whether a device may be made,
// opened or removed.
//
//	r := registry.New(nil)
//	err := r.RegisterParent(registry.Parent{Name: "demo", Types: types})
//	dev, err := r.Create(ctx, "demo", "demo", uuid.New(), attrs)
//	session, err := r.Open(ctx, dev.UUID, &mdev.SessionConfig{Name: "vm1"})
//	...
//	err = r.Remove(ctx, dev.UUID) // waits until ctx for vm1 to close it
//
// The tables parents, types, devices, groups and events are a go-memdb
// database. Each change is one transaction, which adds what it changed to the
// events; so a reader sees all of a change or nothing, and [Registry.Watch]
// gives every change once, in order.
//
// Specification: Linux, Documentation/driver-api/vfio-mediated-device.rst and
// drivers/vfio/mdev (what is refused, and with which errno).
//
// # What always holds
//
//   - A UUID names one device of the registry, whatever its parent.
//   - There are never more devices of a type than it has instances. Of those
//     who race for the last one, one gets it, and a type's New is called for
//     that one alone.
//   - A device has one session at a time. It can be opened again when the one
//     before has closed to its end: nothing of it is left then.
//   - A device is destroyed once, closed, and after it can no longer be
//     opened. A removal that gives up leaves it as it was.
//   - Nothing of a device's or a type's code runs inside a transaction, but
//     Group.
//   - The registry starts no goroutine that outlives the call that did.
//
// # Errors
//
//	RegisterParent   name or type without meaning           ErrInvalid   EINVAL
//	                 name is taken                          ErrExists    EEXIST
//	                 registry is closed                     ErrGone      ENODEV
//	UnregisterParent unknown                                ErrNotFound  ENOENT
//	                 being unregistered                     ErrAgain     EAGAIN
//	                 a device is held until ctx ended       ErrBusy      EBUSY
//	Create           form of the UUID ([ParseUUID])         ErrInvalid   EINVAL
//	                 attributes past their limits           ErrInvalid   EINVAL
//	                 unknown parent, unknown type           ErrNotFound  ENOENT
//	                 parent is being unregistered           ErrGone      ENODEV
//	                 UUID is taken                          ErrExists    EEXIST
//	                 no instance left, too many devices     ErrNoSpace   ENOSPC
//	                 the type refuses                       its error
//	Remove           unknown                                ErrNotFound  ENOENT
//	                 being made, being removed              ErrAgain     EAGAIN
//	                 held until ctx ended                   ErrBusy      EBUSY
//	Open             unknown                                ErrNotFound  ENOENT
//	                 being made                             ErrAgain     EAGAIN
//	                 being removed                          ErrGone      ENODEV
//	                 open, or its group is open elsewhere   ErrBusy      EBUSY
//
// The kernel has ENODEV where a device is removed that is gone; here whoever
// removes something by name is told that there is none.
//
// # Locks
//
//	Parent's create lock (types with Available only)
//	  the database's writer lock
//
// # Out of scope
//
// Definitions that outlive the process (package mdevctl). Serving devices to a
// VMM (package vfiouser). Moving a device from one group to another.
package registry
