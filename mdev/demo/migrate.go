package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/softmdev/softmdev/mdev/errs"
)

// state is what migrates: any number of copies of the memory alone, and then all
// of it, a JSON object each.
type state struct {
	Version                     int
	Memory, Registers, Function []byte
	Ring                        uint32
	Queue                       []command
}

// stateVersion is what state.Version is now, maxState how many bytes Load reads.
const stateVersion, maxState = 1, 1 << 20

// PreCopy implements mdev.PreCopier: the memory, which may change yet.
func (d *Device) PreCopy(_ context.Context, w io.Writer) error { return d.write(w, &state{}) }

// Save implements mdev.Migrator.
func (d *Device) Save(_ context.Context, w io.Writer) error {
	d.mu.Lock()
	s := state{Registers: d.bar0.Append(nil), Function: d.AppendState(nil), Ring: d.ring, Queue: d.Queue()}
	d.mu.Unlock()
	return d.write(w, &s)
}

func (d *Device) write(w io.Writer, s *state) (err error) {
	s.Version = stateVersion
	if s.Memory, err = d.memory.Append(nil); err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(s)
}

// Load implements mdev.Migrator. Nobody vouches for what r has: it can put the
// device into no state that a guest could not.
func (d *Device) Load(_ context.Context, r io.Reader) error {
	var s state
	for dec := json.NewDecoder(io.LimitReader(r, maxState)); dec.More(); {
		s = state{}
		if err := dec.Decode(&s); err != nil {
			return fmt.Errorf("state: %w: %w", errs.ErrInvalid, err)
		}
	}
	if s.Version != stateVersion || len(s.Queue) > MaxQueue {
		return fmt.Errorf("state of version %d in which %d commands wait: %w", s.Version, len(s.Queue), errs.ErrInvalid)
	}
	err := errors.Join(d.LoadState(s.Function), d.memory.Load(s.Memory))
	d.mu.Lock()
	defer d.mu.Unlock()
	err = errors.Join(err, d.bar0.Load(s.Registers))
	d.ring = s.Ring & (1<<Vectors - 1)
	for _, c := range s.Queue {
		c.Vector %= Vectors
		err = errors.Join(err, d.Submit(c)) // it waits: the device is quiesced
	}
	return err
}
