//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// qmp speaks to QEMU's monitor. One goroutine uses it.
// Spec: QEMU's docs/interop/qmp-spec.rst.
type qmp struct {
	conn   net.Conn
	dec    *json.Decoder
	events []qmpMessage // that came while something else was awaited
}

type qmpMessage struct {
	QMP    json.RawMessage `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Event  string          `json:"event"`
	Data   struct {
		Device string `json:"device"`
	} `json:"data"`
	Error *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// newQMP takes over a connection that a monitor has just made.
func newQMP(conn net.Conn) (*qmp, error) {
	q := &qmp{conn: conn, dec: json.NewDecoder(conn)}
	greeting, err := q.next(10 * time.Second)
	if err != nil {
		return nil, err
	}
	if greeting.QMP == nil {
		return nil, errors.New("no greeting")
	}
	return q, q.execute("qmp_capabilities", nil, nil)
}

func (q *qmp) next(d time.Duration) (m qmpMessage, err error) {
	if err := q.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		return m, err
	}
	return m, q.dec.Decode(&m)
}

// execute runs a command; into, where it is not nil, gets what it returns.
func (q *qmp) execute(command string, args map[string]any, into any) error {
	request := map[string]any{"execute": command}
	if args != nil {
		request["arguments"] = args
	}
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	for {
		m, err := q.next(30 * time.Second)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", command, err)
		case m.Error != nil:
			return fmt.Errorf("%s: %s: %s", command, m.Error.Class, m.Error.Desc)
		case m.Event != "":
			q.events = append(q.events, m)
		case into != nil:
			return json.Unmarshal(m.Return, into)
		default:
			return nil
		}
	}
}

// wait waits for an event of a device, "" for one without.
func (q *qmp) wait(event, device string, d time.Duration) error {
	is := func(m qmpMessage) bool { return m.Event == event && m.Data.Device == device }
	for i, m := range q.events {
		if is(m) {
			q.events = append(q.events[:i], q.events[i+1:]...)
			return nil
		}
	}
	for end := time.Now().Add(d); ; {
		m, err := q.next(time.Until(end))
		if err != nil {
			return fmt.Errorf("event %s %s: %w", event, device, err)
		}
		if is(m) {
			return nil
		}
		q.events = append(q.events, m)
	}
}

// TestQMP talks to a monitor that is played.
func TestQMP(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	gone := make(chan struct{})
	go func() {
		defer theirs.Close()
		defer func() { <-gone }()
		dec := json.NewDecoder(theirs)
		for _, say := range []string{
			`{"QMP": {"version": {}}}`,
			`{"return": {}}`,
			`{"event": "RESUME"}{"event": "DEVICE_DELETED", "data": {"device": "d0"}}{"return": {"status": "running"}}`,
			`{"error": {"class": "DeviceNotFound", "desc": "none"}}{"event": "DEVICE_DELETED", "data": {"path": "/x"}}`,
		} {
			if say[2] != 'Q' {
				var request struct{ Execute string }
				if dec.Decode(&request) != nil || request.Execute == "" {
					return
				}
			}
			if _, err := theirs.Write([]byte(say)); err != nil {
				return
			}
		}
	}()
	q, err := newQMP(ours)
	require.NoError(t, err)
	var status struct{ Status string }
	require.NoError(t, q.execute("query-status", nil, &status))
	require.Equal(t, "running", status.Status)
	require.NoError(t, q.wait("DEVICE_DELETED", "d0", time.Second), "it came before")
	require.ErrorContains(t, q.execute("device_del", map[string]any{"id": "d1"}, nil), "DeviceNotFound: none")
	require.NoError(t, q.wait("DEVICE_DELETED", "", time.Second), "it came later")
	require.NoError(t, q.wait("RESUME", "", time.Second))
	require.Error(t, q.wait("RESUME", "", time.Millisecond), "it came once")
	close(gone)
	require.Error(t, q.execute("query-status", nil, nil), "the monitor has gone")
}
