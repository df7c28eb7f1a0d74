//go:build !linux

package mdev

import "github.com/softmdev/softmdev/mdev/errs"

// Without eventfds interrupts reach functions only.

func checkEventFD(int) (bool, error) { return false, errs.ErrNotSupported }

func signalEventFD(int, bool) bool { return false }

func unblockEventFD(int) {}

func newEventFD() (int, error) { return -1, errs.ErrNotSupported }

func closeFD(int) {}

type watcher struct{ fds *fdCount }

func newWatcher(*fdCount, *tasks) (*watcher, error) { return nil, errs.ErrNotSupported }

func (*watcher) add(int, func()) (*watch, error) { return nil, errs.ErrNotSupported }

func (*watcher) remove(*watch) {}

func (*watcher) close() {}

type watch struct{}
