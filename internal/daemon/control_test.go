package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/registry"
)

// TestLife: a device is made, served, no longer served, removed, each seen by
// others at once.
func TestLife(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	types, err := e.client.Types(ctx)
	require.NoError(t, err)
	require.Equal(t, []Type{{Parent: "p", Name: "few", Title: "Few", API: "vfio-pci", Available: 3}}, types)

	id := uuid.New()
	attrs := Attrs{{Name: "ok", Value: "1"}, {Name: "ok", Value: "2"}}
	d, err := e.client.Create(ctx, Create{UUID: uuid.NullUUID{UUID: id, Valid: true}, Type: "few", Attrs: attrs})
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), d.Created, time.Minute)
	want := Device{UUID: id, Parent: "p", Type: "few", API: "vfio-pci", Attrs: attrs, State: "idle", Created: d.Created}
	require.Equal(t, want, d)

	d, err = e.client.Start(ctx, id, Start{})
	require.NoError(t, err)
	want.Socket = filepath.Join(e.dir, "run", id.String()+".sock")
	require.Equal(t, want, d)
	st, err := os.Stat(d.Socket)
	require.NoError(t, err)
	require.Equal(t, os.ModeSocket|0o600, st.Mode())
	_, err = e.client.Start(ctx, id, Start{})
	require.ErrorIs(t, err, errs.ErrExists)
	require.EqualError(t, err, "device "+id.String()+" is served already: already exists")

	require.NoError(t, e.client.Stop(ctx, id, false))
	require.NoFileExists(t, want.Socket)
	require.ErrorIs(t, e.client.Stop(ctx, id, false), errs.ErrNotFound)

	other := filepath.Join(e.dir, "other.sock")
	d, err = e.client.Start(ctx, id, Start{Socket: other})
	require.NoError(t, err)
	require.Equal(t, other, d.Socket)
	list, err := e.client.Devices(ctx)
	require.NoError(t, err)
	require.Equal(t, []Device{d}, list)

	require.NoError(t, e.client.Remove(ctx, id, 0, false))
	require.NoFileExists(t, other)
	list, err = e.client.Devices(ctx)
	require.NoError(t, err)
	require.Empty(t, list)
}

// TestCreateAndStart: what cannot be served is not made.
func TestCreateAndStart(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	d, err := e.client.Create(ctx, Create{Type: "few", Start: &Start{}})
	require.NoError(t, err)
	require.FileExists(t, d.Socket)
	_, err = e.client.Create(ctx, Create{Type: "few", Start: &Start{Socket: d.Socket}})
	require.ErrorIs(t, err, errs.ErrBusy)
	_, err = e.client.Create(ctx, Create{Type: "few", Start: &Start{Socket: "relative"}})
	require.ErrorIs(t, err, errs.ErrInvalid)
	list, err := e.client.Devices(ctx)
	require.NoError(t, err)
	require.Len(t, list, 1)
}

// TestRefusals: each says why, and with the errno of the registry.
func TestRefusals(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	full := func() {
		for range 3 {
			_, err := e.client.Create(ctx, Create{Type: "few"})
			require.NoError(t, err)
		}
	}
	id := uuid.New()
	create := func(c Create) error { _, err := e.client.Create(ctx, c); return err }
	for _, row := range []struct {
		do   func() error
		want error
		text string
	}{
		{func() error { return create(Create{Type: "none"}) }, errs.ErrNotFound, "type none: not found (there are few)"},
		{func() error { return create(Create{Parent: "q", Type: "few"}) }, errs.ErrNotFound, "parent q: not found"},
		{func() error { return create(Create{Type: "few", Attrs: Attrs{{Name: "x"}}}) }, errs.ErrInvalid, "attribute x: invalid argument"},
		{func() error { _, err := e.client.Start(ctx, id, Start{}); return err }, errs.ErrNotFound, "device " + id.String() + ": not found"},
		{func() error { return e.client.Stop(ctx, id, true) }, errs.ErrNotFound, "device " + id.String()},
		{func() error { return e.client.Remove(ctx, id, time.Second, true) }, errs.ErrNotFound, "device " + id.String()},
		{func() error { return e.client.Remove(ctx, id, time.Hour, false) }, errs.ErrInvalid, `wait="1h0m0s": want a duration up to 10m0s`},
		{func() error { full(); return create(Create{Type: "few"}) }, errs.ErrNoSpace, "type few of parent p has no instance left"},
	} {
		err := row.do()
		require.ErrorIs(t, err, row.want)
		require.ErrorContains(t, err, row.text)
	}
}

// TestRawRequests: what a client of ours would not send is refused too, with
// JSON that says why.
func TestRawRequests(t *testing.T) {
	e := newEnv(t)
	id := uuid.New().String()
	for _, row := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "/", "", 404, "GET /: no such request"},
		{"PUT", "/v1/devices", "", 404, "PUT /v1/devices: no such request"},
		{"GET", "/v1/devices?uuid=x", "", 400, `\"x\" is not a UUID`},
		{"GET", "/v1/devices?uuid=" + id, "", 200, "[]"},
		{"GET", "/v1/devices?parent=q", "", 200, "[]"},
		{"POST", "/v1/devices", "", 404, "type : not found"},
		{"POST", "/v1/devices", "{", 400, "body: unexpected EOF"},
		{"POST", "/v1/devices", `{"typ":"few"}`, 400, `body: unknown field \"typ\"`},
		{"POST", "/v1/devices", `{"type":"few"} {}`, 400, "body: more than one value"},
		{"POST", "/v1/devices", `{"type":"few","uuid":"x"}`, 400, "body: invalid UUID length"},
		{"POST", "/v1/devices", `{"type":"few","attrs":[{"a":"b","c":"d"}]}`, 400, "want one name and its value, have 2"},
		{"POST", "/v1/devices", `{"type":"` + strings.Repeat("x", maxBody) + `"}`, 400, "body: http: request body too large"},
		{"POST", "/v1/devices", `{"type":"few","uuid":"00000000-0000-0000-0000-000000000000"}`, 400, "the zero UUID names no device"},
		{"POST", "/v1/devices/x/start", "", 400, `\"x\" is not a UUID`},
		{"POST", "/v1/devices/" + id + "/stop?force=maybe", "", 400, `force=\"maybe\"`},
		{"DELETE", "/v1/devices/" + id + "?wait=-1s", "", 400, `wait=\"-1s\"`},
		{"DELETE", "/v1/devices/" + id + "?wait=soon", "", 400, `wait=\"soon\"`},
	} {
		t.Run(fmt.Sprintf("%s %s %.20s", row.method, row.path, row.body), func(t *testing.T) {
			req, err := http.NewRequest(row.method, "http://mdev"+row.path, strings.NewReader(row.body))
			require.NoError(t, err)
			resp, err := e.client.http.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, row.status, resp.StatusCode, "%s", b)
			require.Contains(t, string(b), row.text)
			require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
		})
	}
}

// TestNotServing: who asks where nobody listens is told where they looked.
func TestNotServing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	_, err := NewClient(path).Devices(t.Context())
	var none *NotServing
	require.ErrorAs(t, err, &none)
	require.EqualError(t, err, "no mdev serve listens on "+path+": no such file or directory")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	for _, err := range NewClient(path).Watch(t.Context()) {
		require.EqualError(t, err, "no mdev serve listens on "+path+": connection refused")
	}
}

// TestWatchAPI: what there is and each change, until the client or the daemon
// ends it.
func TestWatchAPI(t *testing.T) {
	e := newEnv(t)
	id := uuid.New()
	ctx := t.Context()
	var got []string
	for ev, err := range e.client.Watch(ctx) {
		require.NoError(t, err)
		text := ev.Op + " " + ev.Parent
		if ev.Device != nil {
			text += ev.Device.State + " " + filepath.Base(ev.Device.Socket)
		}
		got = append(got, text)
		switch len(got) {
		case 2:
			_, err := e.client.Create(ctx, Create{UUID: uuid.NullUUID{UUID: id, Valid: true}, Type: "few", Start: &Start{Socket: filepath.Join(e.dir, "s")}})
			require.NoError(t, err)
		case 4:
			require.NoError(t, e.client.Remove(ctx, id, 0, true)) // three changes
		}
		if len(got) == 7 {
			break
		}
	}
	require.Equal(t, []string{
		"present p", "synced ", "added idle .", "changed idle s", "changed idle .", "changed removing .", "removed removing .",
	}, got)

	ended, stop := false, make(chan struct{})
	defer func() { <-stop }()
	for ev, err := range e.client.Watch(ctx) {
		if ev.Op == "synced" {
			go func() { defer close(stop); e.stop() }()
		}
		if err != nil {
			ended = true
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}
	}
	require.True(t, ended)
}

// TestWatchLimit: there are no more watchers than the limit; who leaves makes
// room.
func TestWatchLimit(t *testing.T) {
	e := newEnv(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready, done := make(chan error), make(chan struct{})
	for range maxWatchers {
		go func() {
			defer func() { done <- struct{}{} }()
			for ev, err := range e.client.Watch(ctx) {
				if err != nil || ev.Op == "synced" {
					ready <- err
				}
			}
		}()
	}
	for range maxWatchers {
		require.NoError(t, <-ready)
	}
	for _, err := range e.client.Watch(ctx) {
		require.ErrorIs(t, err, errs.ErrAgain)
		require.ErrorContains(t, err, "32 watch already")
	}
	cancel()
	for range maxWatchers {
		<-done
	}
	require.Eventually(t, func() bool {
		for _, err := range e.client.Watch(t.Context()) {
			return err == nil
		}
		return false
	}, 10*time.Second, 10*time.Millisecond)
}

// TestSlowRequest: who connects and does not ask holds up nobody.
func TestSlowRequest(t *testing.T) {
	e := newEnv(t)
	for range maxConnections / 2 {
		c, err := net.Dial("unix", filepath.Join(e.dir, "control.sock"))
		require.NoError(t, err)
		defer c.Close()
	}
	_, err := e.client.Devices(t.Context())
	require.NoError(t, err)
}

// TestControlSocket: a socket that is connected cannot be the control socket.
func TestControlSocket(t *testing.T) {
	e := newEnv(t)
	s := &Socket{Name: "fd:9", fd: -1}
	require.ErrorIs(t, e.ServeControl(t.Context(), s), errs.ErrInvalid)
}

// TestErrnoNames: the errnos on the wire come back as what they were.
func TestErrnoNames(t *testing.T) {
	for name, err := range sentinels {
		require.Equal(t, name, errnoName(fmt.Errorf("x: %w", err)))
	}
	require.Equal(t, "EIO", errnoName(io.EOF))
	require.NotNil(t, registry.New(nil))
}
