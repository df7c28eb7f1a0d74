package registry

import (
	"cmp"
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
)

// Open opens a device for a VMM, which cfg.Name names. The session holds the
// device until it has closed.
//
// Of the devices of one group, those that are open at one time must share the
// container that cfg.Store is: whoever may program one of them may reach what
// another can.
func (r *Registry) Open(ctx context.Context, id uuid.UUID, cfg *mdev.SessionConfig) (*mdev.Session, error) {
	var c mdev.SessionConfig
	if cfg != nil {
		c = *cfg
	}
	hold := &lease{}
	var dev mdev.Device
	err := r.change(func(t txn) error {
		row, ok := t.device(id)
		if !ok {
			return unknown(id)
		}
		switch row.State {
		case stateCreating:
			return fmt.Errorf("device %s is being made: %w", id, errs.ErrAgain)
		case StateRemoving:
			return fmt.Errorf("device %s is being removed: %w", id, errs.ErrGone)
		case StateOpen:
			return fmt.Errorf("device %s is open by %s: %w", id, row.Holder, errs.ErrBusy)
		}
		for _, other := range all[*deviceRow](t, tableDevices, indexGroup, groupKey(row.Group)) {
			if other.lease != nil && (c.Store == nil || other.store != c.Store) {
				return fmt.Errorf("device %s is of group %d, of which %s is open in another container by %s: %w",
					id, row.Group, other.UUID, other.Holder, errs.ErrBusy)
			}
		}
		next := *row
		next.State, next.Holder, next.lease, next.store = StateOpen, cmp.Or(c.Name, "session"), hold, c.Store
		t.put(tableDevices, &next)
		t.emit(Changed, nil, &next)
		dev = row.dev
		return nil
	})
	if err != nil {
		return nil, err
	}
	closed := c.Closed
	c.Closed = func() {
		r.release(id, hold)
		if closed != nil {
			closed()
		}
	}
	s, err := mdev.Open(ctx, dev, &c)
	if err != nil {
		r.release(id, hold)
		return nil, fmt.Errorf("device %s: %w", id, err)
	}
	going := false
	_ = r.change(func(t txn) error {
		row, ok := t.device(id)
		if !ok || row.lease != hold {
			return nil // closed already
		}
		next := *row
		next.session = s
		going = next.State == StateRemoving
		t.put(tableDevices, &next)
		return nil
	})
	if going {
		_ = s.Close(ctx)
		return nil, fmt.Errorf("device %s is being removed: %w", id, errs.ErrGone)
	}
	r.cfg.Log.Info("device opened", "device", id.String(), "by", c.Name)
	return s, nil
}

// release ends a holder's claim; the second time it does nothing.
func (r *Registry) release(id uuid.UUID, hold *lease) {
	if hold.ended.Swap(true) {
		return
	}
	by := ""
	_ = r.change(func(t txn) error {
		row, ok := t.device(id)
		if !ok || row.lease != hold {
			return nil
		}
		by = row.Holder
		next := *row
		next.Holder, next.session, next.lease, next.store = "", nil, nil, nil
		if next.State == StateOpen {
			next.State = StateIdle
		}
		t.put(tableDevices, &next)
		t.emit(Changed, nil, &next)
		return nil
	})
	r.cfg.Log.Info("device closed", "device", id.String(), "by", by)
}

// Session is the session that has the device open, nil where none has.
func (r *Registry) Session(id uuid.UUID) *mdev.Session {
	if row, ok := r.view().device(id); ok {
		return row.session
	}
	return nil
}

// SetEndpoint notes where a device is served; empty: nowhere.
func (r *Registry) SetEndpoint(id uuid.UUID, where string) error {
	return r.change(func(t txn) error {
		row, ok := t.device(id)
		if !ok || row.State == stateCreating {
			return unknown(id)
		}
		if row.Endpoint == where {
			return nil
		}
		next := *row
		next.Endpoint = where
		t.put(tableDevices, &next)
		t.emit(Changed, nil, &next)
		return nil
	})
}

// Opener opens one device of a registry; it is what a server of that device
// is given.
type Opener struct {
	r  *Registry
	id uuid.UUID
}

// Opener is the Opener of a device, which need not exist yet.
func (r *Registry) Opener(id uuid.UUID) Opener { return Opener{r, id} }

// Open is [Registry.Open] of the device.
func (o Opener) Open(ctx context.Context, cfg *mdev.SessionConfig) (*mdev.Session, error) {
	return o.r.Open(ctx, o.id, cfg)
}
