package registry_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevtest"
	"github.com/softmdev/softmdev/mdev/registry"
)

// A device is made of a parent's type, opened by a VMM, and removed.
func Example() {
	ctx := context.Background()
	r := registry.New(&registry.Config{Ask: 10 * time.Millisecond})
	err := r.RegisterParent(registry.Parent{Name: "demo", Types: []registry.Type{{
		Name: "demo-1", API: mdev.APIPCI, Instances: 1,
		New: func(context.Context, registry.Spec) (mdev.Device, error) { return mdevtest.NewDevice(nil), nil },
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	id := uuid.MustParse("83c32df7-d52e-4ec1-9668-1f3c7e4df107")
	d, err := r.Create(ctx, "demo", "demo-1", id, nil)
	fmt.Println(d.UUID, d.State, err)
	_, err = r.Create(ctx, "demo", "demo-1", uuid.New(), nil)
	fmt.Println(err)

	s, err := r.Open(ctx, id, &mdev.SessionConfig{Name: "vm1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	// The VMM is asked to let go, and does not.
	impatient, stop := context.WithTimeout(ctx, 20*time.Millisecond)
	defer stop()
	err = r.Remove(impatient, id)
	fmt.Println(errors.Is(err, errs.ErrBusy), err)

	// It does.
	fmt.Println(s.Close(ctx), r.Remove(ctx, id), len(r.List()), r.Close(ctx))
	// Output:
	// 83c32df7-d52e-4ec1-9668-1f3c7e4df107 idle <nil>
	// type demo-1 of parent demo has no instance left: no space left
	// true device 83c32df7-d52e-4ec1-9668-1f3c7e4df107 is open by vm1, who did not release it: busy: context deadline exceeded
	// <nil> <nil> 0 <nil>
}

// Whoever watches sees what there is and then each change.
func ExampleRegistry_Watch() {
	ctx := context.Background()
	r := registry.New(nil)
	newDevice := func(context.Context, registry.Spec) (mdev.Device, error) { return mdevtest.NewDevice(nil), nil }
	_ = r.RegisterParent(registry.Parent{Name: "demo", Types: []registry.Type{{Name: "demo-1", API: mdev.APIPCI, Instances: 1, New: newDevice}}})
	id := uuid.MustParse("83c32df7-d52e-4ec1-9668-1f3c7e4df107")
	for e := range r.Watch(ctx) {
		switch {
		case e.Parent != nil:
			fmt.Println(e.Op, e.Parent.Name)
		case e.Device != nil:
			fmt.Println(e.Op, e.Device.UUID, e.Device.State)
		default:
			fmt.Println(e.Op)
		}
		switch e.Op {
		case registry.Synced:
			if _, err := r.Create(ctx, "demo", "demo-1", id, nil); err != nil {
				fmt.Println(err)
			}
		case registry.Added:
			if err := r.Close(ctx); err != nil {
				fmt.Println(err)
			}
		}
	}
	// Output:
	// present demo
	// synced
	// added 83c32df7-d52e-4ec1-9668-1f3c7e4df107 idle
	// changed demo
	// changed 83c32df7-d52e-4ec1-9668-1f3c7e4df107 removing
	// removed 83c32df7-d52e-4ec1-9668-1f3c7e4df107 removing
	// removed demo
}
