package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/hashicorp/go-memdb"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Config configures a [Registry]. The zero value and nil are the defaults.
type Config struct {
	// Log gets a line for each device that is made, opened, closed and
	// removed. Nil: silent.
	Log *slog.Logger
	// MaxDevices is how many devices there may be. 0: 1024.
	MaxDevices int
	// Events is how many changes are kept for those who watch; who falls
	// further behind starts again from what there is. 0: 1024.
	Events int
	// Ask is the time between two requests to the holder of a device that
	// is being removed. 0: 1 s. (The kernel asks every 10 s.)
	Ask time.Duration
}

// Limits of names and attributes.
const (
	MaxName  = 255     // bytes of a name of a parent, a type, a group
	MaxAttrs = 1024    // attributes of a device
	maxAttrs = 1 << 20 // bytes of their names and values
)

// Registry holds what exists. Its methods may be called by any goroutine.
type Registry struct {
	cfg  Config
	db   *memdb.MemDB
	done chan struct{} // closed when the registry is

	// Guarded by the database's writer lock.
	nextGroup uint32
	closed    bool
}

// New returns an empty registry.
func New(cfg *Config) *Registry {
	r := &Registry{done: make(chan struct{})}
	if cfg != nil {
		r.cfg = *cfg
	}
	r.cfg.Log = cmp.Or(r.cfg.Log, slog.New(slog.DiscardHandler))
	r.cfg.MaxDevices = cmp.Or(r.cfg.MaxDevices, 1024)
	r.cfg.Events = cmp.Or(r.cfg.Events, 1024)
	r.cfg.Ask = cmp.Or(r.cfg.Ask, time.Second)
	r.db = must(memdb.NewMemDB(schema()))
	return r
}

// view is a look at one moment.
func (r *Registry) view() txn { return txn{r.db.Txn(false), r} }

// change makes one change: all of what f does, or nothing if it fails.
func (r *Registry) change(f func(t txn) error) error {
	t := txn{r.db.Txn(true), r}
	defer t.Abort() // does nothing after Commit
	if err := f(t); err != nil {
		return err
	}
	t.Commit()
	return nil
}

// RegisterParent adds a parent and its types.
func (r *Registry) RegisterParent(p Parent) error {
	if err := checkName("parent", p.Name); err != nil {
		return err
	}
	if len(p.Types) == 0 {
		return fmt.Errorf("parent %s has no types: %w", p.Name, errs.ErrInvalid)
	}
	for i, t := range p.Types {
		if err := checkName("type", t.Name); err != nil {
			return fmt.Errorf("parent %s: %w", p.Name, err)
		}
		if slices.ContainsFunc(p.Types[:i], func(u Type) bool { return u.Name == t.Name }) {
			return fmt.Errorf("parent %s: type %s twice: %w", p.Name, t.Name, errs.ErrExists)
		}
		if t.API == "" || t.New == nil || t.Available == nil && t.Instances <= 0 {
			return fmt.Errorf("parent %s: type %s has no API, no New or no instances: %w", p.Name, t.Name, errs.ErrInvalid)
		}
	}
	return r.change(func(t txn) error {
		if r.closed {
			return fmt.Errorf("registry is closed: %w", errs.ErrGone)
		}
		if _, ok := t.parent(p.Name); ok {
			return fmt.Errorf("parent %s: %w", p.Name, errs.ErrExists)
		}
		row := &parentRow{name: p.Name, create: make(chan struct{}, 1)}
		t.put(tableParents, row)
		for _, typ := range p.Types {
			t.put(tableTypes, &typeRow{p.Name, typ})
		}
		t.emit(Added, t.parentInfo(row), nil)
		return nil
	})
}

// checkName refuses names that cannot be one element of a path.
func checkName(what, name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q cannot be the name of a %s: %w", name, what, errs.ErrInvalid)
	case len(name) > MaxName:
		return fmt.Errorf("name of a %s has %d bytes, more than %d: %w", what, len(name), MaxName, errs.ErrInvalid)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r < 0x20 || r == 0x7f }):
		return fmt.Errorf("%q cannot be the name of a %s: it has a slash, a control character or is not UTF-8: %w", name, what, errs.ErrInvalid)
	}
	return nil
}

// UnregisterParent removes a parent: from now on no device is made of it, its
// devices are removed all at once, each as by [Registry.Remove], then the
// parent and its types. If a device is still held when ctx ends, the parent
// stays, with the devices that are left, and can be used again.
func (r *Registry) UnregisterParent(ctx context.Context, name string) error {
	leave := func(t txn, leaving bool) {
		p, _ := t.parent(name)
		row := *p
		row.leaving = leaving
		t.put(tableParents, &row)
		t.emit(Changed, t.parentInfo(&row), nil)
	}
	err := r.change(func(t txn) error {
		p, ok := t.parent(name)
		if !ok {
			return fmt.Errorf("parent %s: %w", name, errs.ErrNotFound)
		}
		if p.leaving {
			return fmt.Errorf("parent %s is being unregistered: %w", name, errs.ErrAgain)
		}
		leave(t, true)
		return nil
	})
	if err != nil {
		return err
	}
	for err == nil {
		err = r.removeChildren(ctx, name)
		if err != nil {
			break
		}
		gone := false
		_ = r.change(func(t txn) error {
			p, _ := t.parent(name)
			if len(all[*deviceRow](t, tableDevices, indexParent, nameKey(name))) > 0 {
				return nil // one whose making had begun before
			}
			for _, typ := range all[*typeRow](t, tableTypes, indexParent, nameKey(name)) {
				t.drop(tableTypes, typ)
			}
			t.drop(tableParents, p)
			t.emit(Removed, t.parentInfo(p), nil)
			gone = true
			return nil
		})
		if gone {
			return nil
		}
	}
	_ = r.change(func(t txn) error { leave(t, false); return nil })
	return fmt.Errorf("parent %s stays: %w", name, err)
}

// removeChildren removes the devices of a parent and waits for those that
// somebody else is making or removing.
func (r *Registry) removeChildren(ctx context.Context, parent string) error {
	t := r.view()
	it := must(t.Get(tableDevices, indexParent, nameKey(parent)))
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	others := false
	for row := it.Next(); row != nil; row = it.Next() {
		id := row.(*deviceRow).UUID
		wg.Go(func() {
			err := r.Remove(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, errs.ErrAgain):
				others = true
			case err != nil && !errors.Is(err, errs.ErrNotFound):
				failed = append(failed, err)
			}
		})
	}
	wg.Wait()
	if len(failed) > 0 || !others {
		return errors.Join(failed...)
	}
	select {
	case <-it.WatchCh():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a device is being made or removed: %w", errs.ErrBusy)
	}
}

// Close unregisters all parents, as [Registry.UnregisterParent] does, and ends
// all watches. No parent can be added afterwards. Where it fails, it can be
// called again.
func (r *Registry) Close(ctx context.Context) error {
	var parents []*parentRow
	_ = r.change(func(t txn) error {
		r.closed = true
		parents = all[*parentRow](t, tableParents, indexID)
		return nil
	})
	failed := make([]error, len(parents))
	var wg sync.WaitGroup
	for i, p := range parents {
		wg.Go(func() {
			if err := r.UnregisterParent(ctx, p.name); !errors.Is(err, errs.ErrNotFound) {
				failed[i] = err
			}
		})
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	return r.change(func(txn) error { // for its lock: two may close
		select {
		case <-r.done:
		default:
			close(r.done)
		}
		return nil
	})
}

// unknown is the error for a device that is not there.
func unknown(id uuid.UUID) error { return fmt.Errorf("device %s: %w", id, errs.ErrNotFound) }
