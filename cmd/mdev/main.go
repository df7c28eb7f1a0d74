package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/mdev/mdevctl"
)

// Exit codes. They are part of the interface.
const (
	exitEqual       = 0
	exitDifferent   = 1
	exitBadInput    = 2
	exitFailed      = 3
	exitInterrupted = 130
)

// cli is the command line.
type cli struct {
	Serve    serveCmd    `cmd:"" help:"Serve devices to VMMs over vfio-user."`
	Types    typesCmd    `cmd:"" help:"List types of devices."`
	List     listCmd     `cmd:"" help:"List devices, or watch them."`
	Create   createCmd   `cmd:"" help:"Make a device."`
	Start    startCmd    `cmd:"" help:"Serve a device: made before, defined, or new."`
	Stop     stopCmd     `cmd:"" help:"Remove a device."`
	Define   defineCmd   `cmd:"" help:"Write the definition of a device."`
	Modify   modifyCmd   `cmd:"" help:"Change the definition of a device."`
	Undefine undefineCmd `cmd:"" help:"Remove the definition of a device."`

	Replay   replayCmd   `cmd:"" help:"Translate, pin, execute and compare recorded programs."`
	Inspect  inspectCmd  `cmd:"" help:"Show a program as the guest wrote it and as hardware got it."`
	Minimize minimizeCmd `cmd:"" help:"Write the smallest recording that still shows a difference."`
	Bench    benchCmd    `cmd:"" help:"Measure the hot paths beside simple baselines."`

	Version kong.VersionFlag `help:"Print the version and exit."`
}

// app is what commands work with.
type app struct {
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
}

// exit is an error that is only an exit code: everything has been said.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usage is a fault of the command line beyond its syntax.
type usage struct{ error }

func usagef(format string, args ...any) error { return usage{fmt.Errorf(format, args...)} }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main without the process around it.
func run(args []string, stdout, stderr io.Writer) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	done := -1 // help and version end here
	k, err := kong.New(&c,
		kong.Name("mdev"),
		kong.Description("Mediated devices whose DMA is policed in software: replay what real guests submitted, "+
			"see how it is translated, find the smallest program that goes wrong."),
		kong.Vars{"version": version(), "root": mdevctl.DefaultRoot, "stop": defaultStop.String()},
		kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Exit(func(code int) { done = code; panic(leave{}) }),
	)
	if err != nil {
		panic(err) // the grammar above is wrong
	}
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(leave); !ok {
				panic(r)
			}
			code = done
		}
	}()
	if len(args) == 0 {
		args = []string{"--help"}
	}
	p, err := k.Parse(args)
	if err == nil {
		err = empty(p)
	}
	if err != nil {
		fmt.Fprintf(stderr, "mdev: %s (see %s --help)\n", line(err), helpOf(p, err))
		return exitBadInput
	}
	err = p.Run(&app{ctx, stdout, stderr})
	return report(err, stderr)
}

// empty refuses flags that are given, with nothing: what a script makes of a
// variable that is not set. They would count as not given. A flag that may be
// empty has the tag mayempty.
func empty(p *kong.Context) error {
	for _, e := range p.Path {
		if f := e.Flag; f != nil && f.Target.Kind() == reflect.String && f.Target.Len() == 0 && !f.Tag.Has("mayempty") {
			return fmt.Errorf("--%s is empty", f.Name)
		}
	}
	return nil
}

// helpOf is the command whose help to look at, as far as kong had come when it
// found fault: p of what it took, err of what it did not.
func helpOf(p *kong.Context, err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) {
		p = parse.Context
	}
	if p != nil && p.Selected() != nil {
		return p.Selected().FullPath()
	}
	return "mdev"
}

// leave unwinds from kong's exit hook, which must not return.
type leave struct{}

// report says what err is about and returns its exit code.
func report(err error, stderr io.Writer) int {
	var code exit
	var file *recording.Error
	var use usage
	var def *mdevctl.FileError
	switch {
	case err == nil:
		return exitEqual
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "mdev: interrupted")
		return exitInterrupted
	case errors.As(err, &file), errors.As(err, &use), errors.As(err, &def):
		fmt.Fprintln(stderr, "mdev: "+line(err))
		return exitBadInput
	case errors.Is(err, syscall.EPIPE):
		return exitFailed
	}
	fmt.Fprintln(stderr, "mdev: "+line(err))
	return exitFailed
}

// line keeps an error on one line.
func line(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func version() string {
	v := "devel"
	if b, ok := debug.ReadBuildInfo(); ok {
		if b.Main.Version != "" && b.Main.Version != "(devel)" {
			v = b.Main.Version
		}
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" && v == "devel" && len(s.Value) >= 12 {
				v += " " + s.Value[:12]
			}
		}
	}
	return fmt.Sprintf("mdev %s, recording format %d, %s %s/%s", v, recording.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
