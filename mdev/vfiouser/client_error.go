//go:build linux

package vfiouser

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// CommandError is why a command of a [Client] failed:
//
//	REGION_READ region 2 offset 0x10 count 4: refused: invalid argument
//
// It unwraps to the errno with which the server refused it, or to what kept
// the command from being carried out: errs.ErrGone, errs.ErrDeadline and the
// error of the context, EPROTO for a reply that does not fit.
type CommandError struct {
	Command wire.Command
	Request string // what was asked for, empty where the command says it all
	Refused bool   // the server said so; Err is its errno
	Err     error
}

func (e *CommandError) Error() string {
	var b strings.Builder
	b.WriteString(e.Command.String())
	if e.Request != "" {
		b.WriteString(" " + e.Request)
	}
	b.WriteString(": ")
	if e.Refused {
		b.WriteString("refused: ")
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

func (e *CommandError) Unwrap() error { return e.Err }

var (
	errClosedHere = fmt.Errorf("client closed: %w", errs.ErrGone)
	errServerGone = fmt.Errorf("server closed the connection: %w", errs.ErrGone)
)

// refusal is the errno of an error reply.
type refusal syscall.Errno

func (r refusal) Error() string { return syscall.Errno(r).Error() }

// refusalOf is the error of an error reply that carries errno. One without an
// errno, or with a number that none has, is EINVAL, as libvfio-user takes it.
func refusalOf(errno uint32) error {
	const maxErrno = 4095 // Linux include/linux/err.h
	if errno == 0 || errno > maxErrno {
		return refusal(unix.EINVAL)
	}
	return refusal(errno)
}

// fail is the error of a command.
func fail(cmd wire.Command, request string, err error) error {
	e := &CommandError{Command: cmd, Request: request, Err: err}
	if r, ok := err.(refusal); ok {
		e.Refused, e.Err = true, syscall.Errno(r)
	}
	return e
}

// badReply is the error of a reply that does not fit its command.
func badReply(format string, args ...any) error {
	return fmt.Errorf("bad reply: "+format+": %w", append(args, unix.EPROTO)...)
}

// noReply is the error of a call that ended before its reply came.
func noReply(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		err = context.DeadlineExceeded // of ours: ClientConfig.Timeout
	}
	if err == context.Canceled {
		return fmt.Errorf("no reply: %w", err)
	}
	return fmt.Errorf("no reply: %w: %w", err, errs.ErrDeadline)
}
