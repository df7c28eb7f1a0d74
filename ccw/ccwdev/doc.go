// Package ccwdev is a channel-attached device as a mediated device: a
// mediator of package ccw in front of an emulated control unit, with the
// regions and interrupts of vfio-ccw.
package ccwdev
