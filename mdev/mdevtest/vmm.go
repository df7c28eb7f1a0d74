package mdevtest

import (
	"testing"

	"github.com/softmdev/softmdev/mdev"
)

// VMM is a fake VMM: guest memory in a memfd, and eventfds.
type VMM struct{ t testing.TB }

// NewVMM returns a VMM with n bytes of guest memory; both are gone when the
// test ends.
func NewVMM(t testing.TB, n int) *VMM { return &VMM{t} }

// RAM is the guest's memory.
func (v *VMM) RAM() []byte { return nil }

// MemFD is the file of the guest's memory; it belongs to v.
func (v *VMM) MemFD() int { return -1 }

// EventFD is a new eventfd, counter 0, nonblocking, that belongs to v.
func (v *VMM) EventFD() *EventFD { return nil }

// EventFD is an eventfd of a [VMM].
type EventFD struct{ fd int }

// FD is the descriptor; it belongs to the VMM.
func (e *EventFD) FD() int { return e.fd }

// Dup is a copy of the descriptor to give away.
func (e *EventFD) Dup() int { return -1 }

// Signal adds 1 to the counter.
func (e *EventFD) Signal() {}

// Take is the counter, which is 0 afterwards.
func (e *EventFD) Take() uint64 { return 0 }

// Wait is Take once the counter is not 0; it fails the test after 10 s.
func (e *EventFD) Wait() uint64 { return 0 }

// Check fails the test if the session, which is closed, left anything behind.
func Check(t testing.TB, s *mdev.Session) {}
