package dashboard_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/internal/daemon"
	"github.com/softmdev/softmdev/mdev"
)

// browser is a headless Chromium, closed when the test ends.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium on this machine: the page was not looked at")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, cancelAlloc := chromedp.NewExecAllocator(ctx, opts...)
	ctx, cancelTab := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancelTab()
		cancelAlloc()
	})
	return ctx
}

// The page shows devices, mappings, leases by owner, rejected programs by
// reason and interrupts, follows changes without being loaded again, and takes
// no text for markup.
func TestPageInBrowser(t *testing.T) {
	ctx := browser(t)
	d := &devices{}
	url := served(t, d)
	shows := func(selector, want string) {
		t.Helper()
		var got string
		require.Eventually(t, func() bool {
			q, err := json.Marshal(selector)
			require.NoError(t, err)
			got, err = chromedp.Run(ctx, chromedp.Evaluate[string]("document.querySelector("+string(q)+")?.innerText ?? '(nothing)'"))
			require.NoError(t, err)
			return got == want
		}, 10*time.Second, 20*time.Millisecond, "%s: want %q", selector, want)
	}

	_, err := chromedp.Run(ctx, chromedp.Navigate(url))
	require.NoError(t, err)
	shows("#summary", "0 devices, 0 in use")
	shows("#none", "No device yet.")

	d.set(idle)
	shows("#summary", "1 device, 0 in use")
	shows("article .uuid", idle.UUID.String())

	d.set(idle, busy)
	const at = "article[data-uuid='00000000-0000-4000-8000-000000000002'] "
	shows("#summary", "2 devices, 1 in use")
	shows(at+".state", "open")
	shows(at+"[data-fact=mappings] dd", "5")
	shows(at+"[data-fact=mapped] dd", "3.0 MiB")
	shows(at+"[data-fact=pinned] dd", "8.0 KiB")
	shows(at+"[data-table=Leases] tbody tr", "demo\t2\t8.0 KiB")
	shows(at+"[data-table=Interrupts] tbody tr", "MSI-X\t1\t41\t40\t1")
	shows(at+"[data-table='Rejected programs'] tbody tr:nth-child(1)", markup+"\t1")
	shows(at+"[data-table='Rejected programs'] tbody tr:nth-child(2)", "not mapped\t6")

	st := *busy.Session
	st.Maps = 1234
	st.IRQs = []mdev.IRQStats{{Name: "MSI-X", Vectors: []mdev.VectorStats{{Raised: 7, Signalled: 7}}}}
	more := busy
	more.Session = &st
	d.set(more)
	shows("#summary", "1 device, 1 in use")
	shows(at+"[data-fact=mappings] dd", "1,234")
	shows(at+"[data-table=Interrupts] tbody tr", "MSI-X\t0\t7\t7\t0")

	images, err := chromedp.Run(ctx, chromedp.Evaluate[int]("document.images.length"))
	require.NoError(t, err)
	title, err := chromedp.Run(ctx, chromedp.Title())
	require.NoError(t, err)
	require.Zero(t, images, "a reason became markup")
	require.Equal(t, "mdev", title)

	d.set([]daemon.Live{}...)
	shows("#summary", "0 devices, 0 in use")
}
