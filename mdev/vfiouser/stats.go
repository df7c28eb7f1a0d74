//go:build linux

package vfiouser

import (
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// Stats count what went over the connections of a [Server], each number at one
// moment.
type Stats struct {
	Clients   uint64 // that came since the server was made
	Connected bool
	Total     Traffic // since the server was made
	Current   Traffic // of the client that is connected, or was last
}

// Traffic counts messages.
type Traffic struct {
	Commands []CommandStats // those that occurred, in the order of their numbers
	BytesIn  uint64         // of commands
	BytesOut uint64         // of replies
}

// CommandStats count the messages of one command.
type CommandStats struct {
	Command  wire.Command // 0 stands for all that the protocol does not have
	Messages uint64       // commands, from the client or to it
	Errors   uint64       // of those, how many failed
}

// counters are counted by the serving goroutine and those that access memory by
// message, and read by any.
type counters struct {
	clients  atomic.Uint64
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64
	commands [wire.MaxCommand + 1]struct{ messages, errors atomic.Uint64 }

	// base is what they were when the last client came. Guarded by Server.mu.
	base snapshot
}

type snapshot struct {
	bytesIn, bytesOut uint64
	commands          [wire.MaxCommand + 1]CommandStats
}

func (c *counters) command(command wire.Command, failed bool) {
	if !command.Known() {
		command = 0
	}
	x := &c.commands[command]
	x.messages.Add(1)
	if failed {
		x.errors.Add(1)
	}
}

func (c *counters) in(command wire.Command, size int, failed bool) {
	c.bytesIn.Add(uint64(size))
	c.command(command, failed)
}

func (c *counters) snapshot() (s snapshot) {
	s.bytesIn, s.bytesOut = c.bytesIn.Load(), c.bytesOut.Load()
	for i := range s.commands {
		s.commands[i] = CommandStats{wire.Command(i), c.commands[i].messages.Load(), c.commands[i].errors.Load()}
	}
	return s
}

// begin notes that a client comes. Precondition: Server.mu is held.
func (c *counters) begin() {
	c.clients.Add(1)
	c.base = c.snapshot()
}

func (s *snapshot) since(base *snapshot) Traffic {
	t := Traffic{BytesIn: s.bytesIn - base.bytesIn, BytesOut: s.bytesOut - base.bytesOut}
	for i, x := range s.commands {
		x.Messages -= base.commands[i].Messages
		x.Errors -= base.commands[i].Errors
		if x.Messages != 0 {
			t.Commands = append(t.Commands, x)
		}
	}
	return t
}

// Stats are the server's counts.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.count.snapshot()
	return Stats{
		Clients:   s.count.clients.Load(),
		Connected: s.current != nil,
		Total:     now.since(&snapshot{}),
		Current:   now.since(&s.count.base),
	}
}
