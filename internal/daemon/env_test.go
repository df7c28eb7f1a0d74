package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is a daemon with a control socket and a client, and one parent "p" of a
// type "few", of which there can be 3. When the test ends all of it must go.
type env struct {
	*Daemon
	t      testing.TB
	dir    string
	client *Client
	live   atomic.Int32
	stop   func()
}

func newEnv(t testing.TB) *env {
	dir, err := os.MkdirTemp("", "mdev") // short, for the sake of sun_path
	require.NoError(t, err)
	e := &env{t: t, dir: dir}
	t.Cleanup(func() { os.RemoveAll(dir) })
	fds := openFDs(t)
	e.Daemon, err = New(&Config{RunDir: filepath.Join(dir, "run"), Parents: []registry.Parent{{Name: "p", Types: []registry.Type{{
		Name: "few", Title: "Few", API: mdev.APIPCI, Instances: 3,
		New: func(_ context.Context, s registry.Spec) (mdev.Device, error) {
			for _, a := range s.Attrs {
				if a.Name != "ok" {
					return nil, fmt.Errorf("attribute %s: %w", a.Name, errs.ErrInvalid)
				}
			}
			e.live.Add(1)
			return &device{env: e}, nil
		},
	}}}}})
	require.NoError(t, err)
	path := filepath.Join(dir, "control.sock")
	sock, err := Listen(path, 0o600)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var failed error
	wg.Go(func() { failed = e.ServeControl(ctx, sock) })
	e.client = NewClient(path)
	stopped := false
	e.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		wg.Wait()
		require.NoError(t, failed)
		end, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		require.NoError(t, e.Close(end))
		require.NoFileExists(t, path)
		require.Zero(t, e.live.Load(), "a device was not destroyed")
		left, _ := os.ReadDir(filepath.Join(dir, "run"))
		require.Empty(t, left, "a socket was left behind")
		require.Eventually(t, func() bool { return openFDs(t) <= fds }, 5*time.Second, time.Millisecond, "descriptors were left open")
	}
	t.Cleanup(e.stop)
	return e
}

func openFDs(t testing.TB) int {
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}

// device is a PCI device of nothing but BAR 0, which holds what was written until
// somebody asks for a reset.
type device struct {
	env *env
	mu  sync.Mutex
	bar [64]byte // guarded by mu
}

func (d *device) Info() *mdev.Info {
	i := &mdev.Info{
		API: mdev.APIPCI, Reset: true,
		Regions: make([]mdev.RegionInfo, mdev.NumPCIRegions), IRQs: make([]mdev.IRQInfo, mdev.NumPCIIRQs),
	}
	i.Regions[mdev.BAR0] = mdev.RegionInfo{Name: "bar0", Size: 64, Flags: mdev.RegionRead | mdev.RegionWrite}
	i.Regions[mdev.Config] = mdev.RegionInfo{Name: "config", Size: 256, Flags: mdev.RegionRead | mdev.RegionWrite}
	i.IRQs[mdev.IRQREQ] = mdev.IRQInfo{Name: "req", Count: 1, Flags: mdev.IRQEventFD | mdev.IRQNoResize}
	return i
}

func (d *device) Open(context.Context, *mdev.Attachment) error { return nil }
func (d *device) Close()                                       {}
func (d *device) Destroy()                                     { d.env.live.Add(-1) }

func (d *device) Read(_ context.Context, _ int, off uint64, p []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(p, d.bar[min(off, 64):])
	return nil
}

func (d *device) Write(_ context.Context, _ int, off uint64, p []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(d.bar[min(off, 64):], p)
	return nil
}

func (d *device) Reset(_ context.Context, kind mdev.ResetKind) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if kind == mdev.ResetDevice {
		clear(d.bar[:])
	}
	return nil
}
