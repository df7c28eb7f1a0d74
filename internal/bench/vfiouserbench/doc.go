// Package vfiouserbench measures a vfio-user server from the client's end of
// the socket, beside what the same bytes cost without a server: two goroutines
// on threads of their own that read and write a socket, and the same with
// net.UnixConn.
//
// Times are those of the clock on the wall: a round trip is waiting for the
// most part.
package vfiouserbench
