package dashboard_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/softmdev/softmdev/internal/daemon"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/registry"
	"github.com/softmdev/softmdev/mdev/vfiouser"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// devices are what the page is shown, and can be changed while it is.
type devices struct {
	mu    sync.Mutex
	list  []daemon.Live
	asked int
}

func (d *devices) live() []daemon.Live {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	return append([]daemon.Live(nil), d.list...)
}

func (d *devices) set(list ...daemon.Live) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = list
}

// markup is a text by which a device would take over a careless page.
const markup = `<img src=x onerror="document.title='taken'">`

var (
	idle = daemon.Live{Device: registry.Device{
		UUID: uuid.MustParse("00000000-0000-4000-8000-000000000001"), Parent: "softmdev", Type: "demo",
		API: mdev.APIPCI, Endpoint: "/run/a.sock", Created: time.Unix(1, 0),
	}}
	busy = daemon.Live{
		Device: registry.Device{
			UUID: uuid.MustParse("00000000-0000-4000-8000-000000000002"), Parent: "softmdev", Type: "demo",
			API: mdev.APIPCI, State: registry.StateOpen, Holder: "client of /run/b.sock", Endpoint: "/run/b.sock", Created: time.Unix(2, 0),
		},
		Server: &vfiouser.Stats{Clients: 3, Connected: true, Total: vfiouser.Traffic{
			BytesIn: 1000, BytesOut: 2000,
			Commands: []vfiouser.CommandStats{{Command: wire.CmdDMAMap, Messages: 7, Errors: 2}},
		}},
		Session: &mdev.SessionStats{
			Name: "b", Maps: 5, Mapped: 3 << 20, Charged: 8192,
			Leases:  []mdev.OwnerStats{{Owner: "demo", Leases: 2, Bytes: 8192}},
			IRQs:    []mdev.IRQStats{{Index: mdev.IRQMSIX, Name: "MSI-X", Vectors: []mdev.VectorStats{{}, {Raised: 41, Signalled: 40, Lost: 1}}}},
			Regions: []mdev.RegionStats{{Index: 0, Name: "BAR0", Reads: 12, Writes: 34, Errors: 1}},
			Device: []mdev.Metric{
				{Name: "commands", Value: 99},
				{Name: "rejected", Labels: []mdev.Label{{Name: "reason", Value: "not mapped"}}, Value: 6},
				{Name: "rejected", Labels: []mdev.Label{{Name: "reason", Value: markup}}, Value: 1},
			},
		},
	}
)
