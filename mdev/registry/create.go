package registry

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
)

// Create makes a device of a parent's type. The UUID and the instance are
// taken before the type's New is called and given back if that fails; the
// device is seen when it is made.
func (r *Registry) Create(ctx context.Context, parent, typ string, id uuid.UUID, attrs []Attr) (Device, error) {
	if err := checkAttrs(attrs); err != nil {
		return Device{}, err
	}
	spec := Spec{
		UUID: id, Parent: parent, Type: typ, Attrs: slices.Clone(attrs),
		Log: r.cfg.Log.With("device", id.String(), "type", typ),
	}
	t, unlock, err := r.lockCreate(ctx, spec)
	if err != nil {
		return Device{}, err
	}
	defer unlock()
	group := ""
	if t.Group != nil {
		if group = t.Group(spec); group != "" {
			if err := checkName("group", group); err != nil {
				return Device{}, err
			}
		}
	}
	if err := r.reserve(t, spec); err != nil {
		return Device{}, err
	}
	dev, err := t.New(ctx, spec)
	if err == nil && dev.Info().API != t.API {
		destroy(dev)
		err = fmt.Errorf("type makes devices of API %s, not %s: %w", dev.Info().API, t.API, errs.ErrInvalid)
	}
	var made Device
	err = r.finish(spec, group, dev, err, &made)
	if err != nil {
		return Device{}, fmt.Errorf("device %s of type %s: %w", id, typ, err)
	}
	spec.Log.Info("device created", "parent", parent, "group", made.Group)
	return made, nil
}

// lockCreate finds the type and takes, where it has Available, the parent's
// create lock, and asks.
func (r *Registry) lockCreate(ctx context.Context, s Spec) (t *typeRow, unlock func(), err error) {
	v := r.view()
	p, ok := v.parent(s.Parent)
	if !ok {
		return nil, nil, fmt.Errorf("parent %s: %w", s.Parent, errs.ErrNotFound)
	}
	t, ok = get[*typeRow](v, tableTypes, nameKey(s.Parent, s.Type))
	if !ok {
		return nil, nil, fmt.Errorf("type %s of parent %s: %w", s.Type, s.Parent, errs.ErrNotFound)
	}
	if t.Available == nil {
		return t, func() {}, nil
	}
	select {
	case p.create <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("parent %s is making another device: %w: %w", s.Parent, errs.ErrAgain, context.Cause(ctx))
	}
	return t, func() { <-p.create }, nil
}

// reserve takes the UUID and the instance.
func (r *Registry) reserve(typ *typeRow, s Spec) error {
	available := 0
	if typ.Available != nil {
		available = typ.Available()
	}
	return r.change(func(t txn) error {
		p, ok := t.parent(s.Parent)
		switch {
		case !ok || p.leaving:
			return fmt.Errorf("parent %s is being unregistered: %w", s.Parent, errs.ErrGone)
		case must(t.First(tableTypes, indexID, nameKey(s.Parent, s.Type))) != any(typ):
			// The parent went and came again.
			return fmt.Errorf("parent %s was unregistered: %w", s.Parent, errs.ErrGone)
		}
		if _, ok := t.device(s.UUID); ok {
			return fmt.Errorf("device %s: %w", s.UUID, errs.ErrExists)
		}
		if typ.Available == nil {
			available = typ.Instances - len(all[*deviceRow](t, tableDevices, indexType, nameKey(s.Parent, s.Type)))
		}
		if available <= 0 {
			return fmt.Errorf("type %s of parent %s has no instance left: %w", s.Type, s.Parent, errs.ErrNoSpace)
		}
		if n := len(all[*deviceRow](t, tableDevices, indexID)); n >= r.cfg.MaxDevices {
			return fmt.Errorf("there are %d devices already: %w", n, errs.ErrNoSpace)
		}
		t.put(tableDevices, &deviceRow{Device: Device{
			UUID: s.UUID, Parent: s.Parent, Type: s.Type, API: typ.API, Attrs: s.Attrs, State: stateCreating,
		}})
		return nil
	})
}

// finish ends what reserve began: the device is there, or the reservation is
// given back and failure returned.
func (r *Registry) finish(s Spec, group string, dev mdev.Device, failure error, made *Device) error {
	var unwanted mdev.Device
	_ = r.change(func(t txn) error {
		row, _ := t.device(s.UUID)
		if p, _ := t.parent(s.Parent); failure == nil && p.leaving {
			failure = fmt.Errorf("parent %s is being unregistered: %w", s.Parent, errs.ErrGone)
			unwanted = dev
		}
		if failure != nil {
			t.drop(tableDevices, row)
			return nil
		}
		next := *row
		next.dev, next.State, next.Created = dev, StateIdle, time.Now()
		next.Group = t.join(group)
		t.put(tableDevices, &next)
		t.emit(Added, nil, &next)
		*made = next.Device
		return nil
	})
	destroy(unwanted)
	return failure
}

// join is the number of the group of that name, which is made where it is not
// there, or has no name.
func (t txn) join(name string) uint32 {
	if name != "" {
		if g, ok := must(t.First(tableGroups, indexName, nameKey(name))).(*groupRow); ok {
			return g.number
		}
	}
	for {
		n := t.r.nextGroup
		t.r.nextGroup++
		if _, taken := get[*groupRow](t, tableGroups, groupKey(n)); !taken {
			t.put(tableGroups, &groupRow{n, name})
			return n
		}
	}
}

func checkAttrs(attrs []Attr) error {
	if len(attrs) > MaxAttrs {
		return fmt.Errorf("%d attributes, more than %d: %w", len(attrs), MaxAttrs, errs.ErrInvalid)
	}
	n := 0
	for _, a := range attrs {
		n += len(a.Name) + len(a.Value)
	}
	if n > maxAttrs {
		return fmt.Errorf("attributes of %d bytes, more than %d: %w", n, maxAttrs, errs.ErrInvalid)
	}
	return nil
}

func destroy(dev mdev.Device) {
	if d, ok := dev.(Destroyer); ok {
		d.Destroy()
	}
}
