// Package vfiouser is the vfio-user protocol: a device of package mdev served
// to a VMM over a UNIX socket, and a client for such servers.
package vfiouser
