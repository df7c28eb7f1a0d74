// Package mdev is the device model of VFIO, whatever the front end: the
// vfio-user protocol, the kernel's ABI, or a VMM in this process.
package mdev
