package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
)

// Remove removes a device. If somebody has it open, they are asked to let go,
// through the device's request interrupt, again and again until they have or
// ctx ends; then the device stays, and the error is errs.ErrBusy with the name
// of the holder. Meanwhile the device cannot be opened.
func (r *Registry) Remove(ctx context.Context, id uuid.UUID) error {
	err := r.change(func(t txn) error {
		row, ok := t.device(id)
		if !ok {
			return unknown(id)
		}
		switch row.State {
		case stateCreating:
			return fmt.Errorf("device %s is being made: %w", id, errs.ErrAgain)
		case StateRemoving:
			return fmt.Errorf("device %s is being removed: %w", id, errs.ErrAgain)
		}
		next := *row
		next.State = StateRemoving
		t.put(tableDevices, &next)
		t.emit(Changed, nil, &next)
		return nil
	})
	if err != nil {
		return err
	}
	if err := r.waitReleased(ctx, id); err != nil {
		return err
	}
	// Nobody has it and nobody can open it: it is ours.
	row, _ := r.view().device(id)
	destroy(row.dev)
	_ = r.change(func(t txn) error {
		t.drop(tableDevices, row)
		if len(all[*deviceRow](t, tableDevices, indexGroup, groupKey(row.Group))) == 0 {
			g, _ := get[*groupRow](t, tableGroups, groupKey(row.Group))
			t.drop(tableGroups, g)
		}
		t.emit(Removed, nil, row)
		return nil
	})
	r.cfg.Log.Info("device removed", "device", id.String())
	return nil
}

// waitReleased returns when nobody holds the device, which is in
// StateRemoving. Where ctx ends first, the device is what it was before.
func (r *Registry) waitReleased(ctx context.Context, id uuid.UUID) error {
	tick := time.NewTicker(r.cfg.Ask)
	defer tick.Stop()
	ask := true
	for {
		changed, first, err := r.view().FirstWatch(tableDevices, indexID, id[:])
		row := must(first, err).(*deviceRow)
		if row.lease == nil {
			return nil
		}
		if ask && row.session != nil {
			r.cfg.Log.Info("device is to be released", "device", id.String(), "by", row.Holder, "asked", request(row.session))
			ask = false
		}
		select {
		case <-changed:
		case <-tick.C:
			ask = true
		case <-ctx.Done():
			if r.keep(id) {
				return fmt.Errorf("device %s is open by %s, who did not release it: %w: %w", id, row.Holder, errs.ErrBusy, context.Cause(ctx))
			}
		}
	}
}

// keep takes a removal back, unless the device has been released.
func (r *Registry) keep(id uuid.UUID) (kept bool) {
	_ = r.change(func(t txn) error {
		row, _ := t.device(id)
		if row.lease == nil {
			return nil
		}
		next := *row
		next.State = StateOpen
		t.put(tableDevices, &next)
		t.emit(Changed, nil, &next)
		kept = true
		return nil
	})
	return kept
}

// request raises the interrupt by which a device asks to be released, and
// reports whether it has one.
//
// Specification: linux/include/uapi/linux/vfio.h, VFIO_PCI_REQ_IRQ_INDEX and
// VFIO_CCW_REQ_IRQ_INDEX; vfio-platform has none.
func request(s *mdev.Session) bool {
	index := -1
	switch s.Info().API {
	case mdev.APIPCI:
		index = mdev.IRQREQ
	case mdev.APICCW:
		index = ccwRequest
	}
	if index < 0 || index >= len(s.Info().IRQs) || s.Info().IRQs[index].Count == 0 {
		return false
	}
	s.IRQs().Trigger(index, 0)
	return true
}

// ccwRequest is VFIO_CCW_REQ_IRQ_INDEX.
const ccwRequest = 2
