//go:build linux

package vfiouser

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// The conformance tests, conform_*_test.go, take the scenarios of
// libvfio-user's Python tests (test/py, efd091b) one by one and run them
// against our server and client. Each row names the test it re-expresses and
// the section of the specs that decides. Where our server does something
// else, the row names an entry of docs/vfio-user.md, which says why.

// scenario is a request of one of those tests, and its outcome.
type scenario struct {
	name    string // file: test, section of specs/vfio-user.md
	c       wire.Command
	payload []byte
	files   int        // memfds that go with it
	want    unix.Errno // of our server
	lvu     unix.Errno // of libvfio-user
	why     string     // entry of docs/vfio-user.md, where the two differ
	reply   []byte     // exactly; nil: not looked at
}

// scenarios runs rows on one session, which goes on after each.
func (r *rig) scenarios(t *testing.T, rows []scenario) {
	t.Helper()
	for _, s := range rows {
		t.Run(s.name, func(t *testing.T) {
			require.Contains(t, s.name, ":", "a row says which test it is")
			if s.want != s.lvu || s.why != "" {
				differs(t, s.why)
			}
			r.run(t, []wireRow{{"as it is", s.c, s.payload, s.files, s.want, s.reply}})
		})
	}
}

// policyPage lists where we differ.
const policyPage = "../../docs/vfio-user.md"

// differs requires that the difference is explained.
func differs(t *testing.T, why string) {
	t.Helper()
	page, err := os.ReadFile(policyPage)
	require.NoError(t, err)
	require.NotEmpty(t, why)
	require.Contains(t, string(page), "\n| "+why+" | ", "%s has no such entry", policyPage)
}

// Every entry of the list is the subject of a test.
func TestPolicyIsTested(t *testing.T) {
	page, err := os.ReadFile(policyPage)
	require.NoError(t, err)
	files, err := filepath.Glob("conform_*_test.go")
	require.NoError(t, err)
	var tests strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		tests.Write(b)
	}
	_, list, ok := strings.Cut(string(page), "## Where we differ from libvfio-user")
	require.True(t, ok)
	list, _, _ = strings.Cut(list, "\n## ")
	rows := regexp.MustCompile(`(?m)^\| ([a-z][a-z0-9-]*) \| `).FindAllStringSubmatch(list, -1)
	require.Greater(t, len(rows), 5)
	for _, r := range rows[1:] { // the first is the head
		require.Contains(t, tests.String(), `"`+r[1]+`"`, "no test names the entry %q", r[1])
	}
}

// duo is our client and our server, with a device.
type duo struct {
	*Client
	s      *Server
	dev    *rigDevice
	ctx    context.Context
	served chan error
}

// newDuo connects a client with a server that serves newRigDevice, or what wrap
// makes of it. When the test ends both are gone, and nothing is left.
func newDuo(t *testing.T, scfg *ServerConfig, ccfg *ClientConfig, wrap func(*rigDevice) mdev.Device) *duo {
	t.Helper()
	leaves(t)
	d := &duo{dev: newRigDevice(t), ctx: bg(t), served: make(chan error, 1)}
	var dev mdev.Device = d.dev
	if wrap != nil {
		dev = wrap(d.dev)
	}
	var err error
	d.s, err = NewServer(OpenDevice(dev), scfg)
	require.NoError(t, err)
	a, b := socketPair(t)
	go func() { d.served <- d.s.ServeConn(context.Background(), a) }()
	d.Client, err = NewClient(bg(t), b, ccfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, d.Close())
		require.NoError(t, d.s.Close())
		d.ended(t)
	})
	return d
}

// ended waits until the server is done with the client, and says why.
func (d *duo) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-d.served:
		d.served <- nil
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the server does not end")
		return nil
	}
}

// How long, and how often, a test looks for what has to happen.
const (
	waitFor = 10 * time.Second
	tick    = time.Millisecond
)

// look reads a field of the device that its lock guards.
func look[T any](d *rigDevice, field *T) T {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *field
}
