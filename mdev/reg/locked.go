package reg

import (
	"io"
	"sync"
)

// Locked answers accesses to a bank with the lock of its owner held.
type Locked struct {
	Lock sync.Locker
	Bank *Bank
}

var _ interface {
	io.ReaderAt
	io.WriterAt
} = Locked{}

// ReadAt is [Bank.Read].
func (l Locked) ReadAt(p []byte, off int64) (int, error) {
	l.Lock.Lock()
	defer l.Lock.Unlock()
	if err := l.Bank.Read(uint64(off), p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteAt is [Bank.Write].
func (l Locked) WriteAt(p []byte, off int64) (int, error) {
	l.Lock.Lock()
	defer l.Lock.Unlock()
	if err := l.Bank.Write(uint64(off), p); err != nil {
		return 0, err
	}
	return len(p), nil
}
