package dashboard_test

import (
	"context"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/internal/dashboard"
)

// Who opens connections and says nothing takes a bounded number of the
// process's descriptors: without any left, a client's files are lost, and with
// them the client.
func TestAttackConnections(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("counts descriptors by /proc")
	}
	fds := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(list)
	}
	l, err := dashboard.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- dashboard.New(dashboard.Config{Live: (&devices{}).live}).Serve(ctx, l) }()
	before := fds()
	const many = 400
	for range many {
		c, err := (&net.Dialer{Timeout: 20 * time.Second}).DialContext(t.Context(), "tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
	}
	require.Eventually(t, func() bool { return fds() >= before+many+200 }, 20*time.Second, time.Millisecond)
	time.Sleep(20 * time.Millisecond)
	require.LessOrEqual(t, fds(), before+many+256+8, "those of the clients are this process's, too")
	stop()
	require.NoError(t, <-served)
}
