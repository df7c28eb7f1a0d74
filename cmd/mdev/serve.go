package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	served "github.com/softmdev/softmdev/internal/daemon"
	"github.com/softmdev/softmdev/internal/dashboard"
)

// endTime is how long devices may take to end.
const endTime = 10 * time.Second

type serveCmd struct {
	rootFlags
	attrFlags

	Type       string `short:"t" xor:"device" placeholder:"TYPE" help:"Serve one device of this type."`
	Parent     string `short:"p" placeholder:"NAME" help:"Parent of the device, where several have the type."`
	UUID       string `short:"u" help:"UUID of the device. Without, a new one is made."`
	SocketPath string `xor:"where" placeholder:"PATH" help:"Make this UNIX socket for VMMs to connect to."`
	FD         *int   `name:"fd" xor:"where" placeholder:"N" help:"Use this inherited UNIX socket: one that listens, or one that is connected to a VMM; then mdev ends when the VMM goes."`
	Config     string `xor:"device" placeholder:"FILE" help:"Serve the devices that this JSON file lists."`

	Control    string `placeholder:"PATH" help:"Take orders from mdev create, start, stop, list on this UNIX socket. Without a device, the default is theirs."`
	RunDir     string `placeholder:"DIR" help:"Folder for the sockets of devices that are started without one. Default: that of the control socket."`
	SocketMode string `placeholder:"MODE" help:"Rights of the sockets for VMMs, octal. (default 0600)"`
	HTTP       string `name:"http" placeholder:"ADDR" help:"Serve a page that shows what goes on, Prometheus metrics and profiles on HOST:PORT, read-only and for who can connect; without HOST, for this machine."`
	Record     string `placeholder:"FILE" help:"Append what the devices are given to do to this recording, for mdev replay. Of types that run programs (vfio-ccw)."`
	Autostart  bool   `help:"Start the devices whose definition in --root says auto."`

	LogFormat string `enum:"text,json" default:"text" help:"Form of the log on standard error. (${enum}; default ${default})"`
	LogLevel  string `enum:"debug,info,warn,error" default:"info" help:"Least level that is logged. (${enum}; default ${default})"`
}

// Help is the long help.
func (*serveCmd) Help() string {
	return `Serves devices to VMMs over vfio-user, in the foreground, until SIGTERM or SIGINT; then
the exit code is 0. With neither --type nor --config it serves what mdev start tells it.

The file of --config:

  {
    "control": "/run/mdev/control.sock",
    "run_dir": "/run/mdev",
    "socket_mode": "0660",
    "devices": [
      {"type": "demo", "socket": "/run/mdev/vm1.sock"},
      {"type": "demo", "parent": "demo", "uuid": "83c32df7-d52e-4ec1-9668-1f3c7e4df107",
       "attrs": [{"mmap": "on"}], "fd": 3},
      {"type": "demo", "listen": "vm2"}
    ]
  }

All but a device's type may be left out; paths are below the folder of the file, but
those in attrs below the folder in which mdev serve runs. A device without socket, fd or
listen has <run_dir>/<uuid>.sock; a run_dir that is not there is made for its owner
alone, whatever socket_mode says. listen names a socket of
the service manager (systemd.socket, FileDescriptorName=); one called control is the
control socket, and with --type any other one is the device's. Readiness is told to the
service manager (Type=notify).

Examples:
  mdev serve --type demo --socket-path /tmp/demo.sock
  mdev serve --control /run/mdev/control.sock --autostart
  mdev serve --config devices.json --log-format json --http :9090`
}

// Run serves.
func (c *serveCmd) Run(a *app) (err error) {
	log := c.logger(a.stderr)
	passed, err := served.Activation()
	if err != nil {
		return judge(err)
	}
	defer passed.Close()
	p, err := c.plan(passed)
	if err != nil {
		return err
	}
	defer p.close()
	p.config.Log = log
	rec, err := c.recorder(&p.config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rec.Close()) }() // when no device can add to it
	d, err := served.New(&p.config)
	if err != nil {
		return err
	}
	defer func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(a.ctx), endTime)
		defer stop()
		if a.ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // it was told to end before it had begun
		}
		err = errors.Join(judge(err), d.Close(ctx))
	}()
	if err := p.listen(); err != nil {
		return err
	}
	var page net.Listener
	if c.HTTP != "" {
		if page, err = dashboard.Listen(a.ctx, c.HTTP); err != nil {
			return usagef("--http: %w", err)
		}
		defer page.Close()
	}
	if err := p.start(a.ctx, d); err != nil {
		return err
	}
	services := p.services(d)
	if page != nil {
		services = append(services, pageService(page, d, log))
	}
	if c.Autostart {
		autostart(a.ctx, d, c.dir(), log)
	}
	return attend(a.ctx, d, services, log)
}

func (c *serveCmd) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // one of the enum
	opt := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}
