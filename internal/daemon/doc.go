// Package daemon is what `mdev serve` runs: a registry with the built-in
// parents, a vfio-user server for each device that is started, and a control
// API through which other processes create, start, stop, remove and watch
// devices.
//
//	d := daemon.New(&daemon.Config{RunDir: dir})
//	dev, err := d.Create(ctx, daemon.Spec{Type: "demo"})
//	sock, err := daemon.Listen(path, 0o600)
//	dev, err = d.Start(ctx, dev.UUID, sock)   // a VMM can connect now
//	...
//	err = d.Close(ctx)
//
// # The control API
//
// HTTP with JSON over a UNIX socket, which only its owner can open (mode
// 0600). [Client] speaks it.
//
//	GET    /v1/types                     [Type]
//	GET    /v1/devices                   [Device], by UUID; ?uuid=, ?parent= choose
//	POST   /v1/devices                   Create -> Device
//	POST   /v1/devices/{uuid}/start      Start -> Device
//	POST   /v1/devices/{uuid}/stop       ?force=true
//	DELETE /v1/devices/{uuid}            ?force=true, ?wait=<duration>
//	GET    /v1/watch                     Event, one a line, until either side ends it
//
// An error is {"error": text, "errno": name} with a status of 4xx or 5xx.
//
// # What always holds
//
//   - A device has at most one server. Who connects while another is there
//     waits in the socket's queue.
//   - A socket that this process made is gone from the file system when it is
//     closed, unless another is in its place by then. One that a process left
//     behind is replaced; one that somebody listens on is not.
//   - Close ends every goroutine, connection and device, or says which device
//     is still held.
//   - Requests are bounded in size and time, connections and watchers in
//     number. Who watches and does not read is cut off.
//
// # Locks
//
//	Daemon.mu   never held while a device, a server or the registry is called
//
// # Out of scope
//
// Definitions (package mdevctl): who starts a device that is defined sends
// what the definition says. Rights finer than "the owner of the socket may do
// everything".
package daemon
