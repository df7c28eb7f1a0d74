package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// Client speaks to a daemon. Its methods may be called by any goroutine;
// their errors wrap the sentinels of package errs that the daemon's did, and
// are [*NotServing] where there is no daemon.
type Client struct {
	path string
	http http.Client
}

// NotServing says that nobody listens on a control socket.
type NotServing struct {
	Path string
	Err  error
}

func (e *NotServing) Error() string {
	return fmt.Sprintf("no mdev serve listens on %s: %v", e.Path, e.Err)
}
func (e *NotServing) Unwrap() error { return e.Err }

// NewClient returns a client of the daemon with that control socket. It
// connects when it is used, each time anew.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		var errno syscall.Errno
		if errors.As(err, &errno) {
			return nil, &NotServing{path, errno}
		}
		return c, err
	}
	return &Client{path, http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// do makes a request and gives the answer's body, which the caller closes.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, in any) (io.ReadCloser, error) {
	var b bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&b).Encode(in); err != nil {
			return nil, err
		}
	}
	u := url.URL{Scheme: "http", Host: "mdev", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), &b)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var none *NotServing
		if errors.As(err, &none) {
			return nil, none
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%s: %w", c.path, bareURL(err))
	}
	if resp.StatusCode < 300 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var f failure
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&f); err != nil || f.Error == "" {
		return nil, fmt.Errorf("%s: answers %s", c.path, resp.Status)
	}
	return nil, &remoteError{f.Error, sentinels[f.Errno]}
}

// bareURL is err without the method and the URL, which are ours.
func bareURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// call is do for an answer of one value.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	b, err := c.do(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := json.NewDecoder(io.LimitReader(b, 64*maxBody)).Decode(out); err != nil {
		return fmt.Errorf("%s: answer to %s %s: %w", c.path, method, path, err)
	}
	return nil
}

// Types are the types that there are.
func (c *Client) Types(ctx context.Context) (list []Type, err error) {
	err = c.call(ctx, "GET", "/v1/types", nil, nil, &list)
	return list, err
}

// Devices are the devices that there are, by UUID.
func (c *Client) Devices(ctx context.Context) (list []Device, err error) {
	err = c.call(ctx, "GET", "/v1/devices", nil, nil, &list)
	return list, err
}

// Create makes a device.
func (c *Client) Create(ctx context.Context, req Create) (d Device, err error) {
	err = c.call(ctx, "POST", "/v1/devices", nil, req, &d)
	return d, err
}

// Start serves a device.
func (c *Client) Start(ctx context.Context, id uuid.UUID, req Start) (d Device, err error) {
	err = c.call(ctx, "POST", "/v1/devices/"+id.String()+"/start", nil, req, &d)
	return d, err
}

// Stop ends the serving of a device, see [Daemon.Stop].
func (c *Client) Stop(ctx context.Context, id uuid.UUID, force bool) error {
	q := url.Values{"force": {fmt.Sprint(force)}}
	return c.call(ctx, "POST", "/v1/devices/"+id.String()+"/stop", q, nil, &struct{}{})
}

// Remove removes a device; who has it open is asked to let go for that long,
// or loses it with force. See [Daemon.Remove].
func (c *Client) Remove(ctx context.Context, id uuid.UUID, wait time.Duration, force bool) error {
	q := url.Values{"force": {fmt.Sprint(force)}, "wait": {wait.String()}}
	return c.call(ctx, "DELETE", "/v1/devices/"+id.String(), q, nil, &struct{}{})
}

// Watch gives what there is and then every change, see registry.Watch. It ends
// with an error, unless ctx or the caller end it; io.ErrUnexpectedEOF says
// that the daemon went.
func (c *Client) Watch(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		b, err := c.do(ctx, "GET", "/v1/watch", nil, nil)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer b.Close()
		dec := json.NewDecoder(bufio.NewReader(b))
		for {
			var e Event
			err := dec.Decode(&e)
			if ctx.Err() != nil {
				return
			}
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				yield(Event{}, fmt.Errorf("%s: watch: %w", c.path, err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}
