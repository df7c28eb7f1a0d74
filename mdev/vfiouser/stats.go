//go:build linux

package vfiouser

import "github.com/softmdev/softmdev/mdev/vfiouser/wire"

// Stats count what went over the connections of a [Server] since it was made.
type Stats struct {
	Clients   uint64 // that came
	Connected bool
	Commands  []CommandStats // those that occurred, in the order of their numbers
	BytesIn   uint64
	BytesOut  uint64
}

// CommandStats count the messages of one command.
type CommandStats struct {
	Command  wire.Command
	Messages uint64 // commands, from the client or to it
	Errors   uint64 // of those, how many failed
}
