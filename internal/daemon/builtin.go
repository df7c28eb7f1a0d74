package daemon

import (
	"context"

	"github.com/softmdev/softmdev/ccw/ccwdev"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
	"github.com/softmdev/softmdev/mdev/registry"
)

// Builtin are the parents that come with mdev.
func Builtin() []registry.Parent {
	return []registry.Parent{
		{Name: "demo", Types: []registry.Type{{
			Name:        "demo",
			Title:       "Demo device",
			Description: "PCI, registers, a DMA engine, 4 vectors; attributes mmap=on|off, interrupts=msix|msi",
			API:         mdev.APIPCI,
			Instances:   256,
			New: func(_ context.Context, s registry.Spec) (mdev.Device, error) {
				var c demo.Config
				for _, a := range s.Attrs {
					if err := c.Set(a.Name, a.Value); err != nil {
						return nil, err
					}
				}
				return demo.New(&c)
			},
		}}},
		ccwdev.Parent(),
	}
}
