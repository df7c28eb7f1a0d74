package pinning_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
)

// gatedMemory is remote memory that answers when it is told to.
type gatedMemory struct{ asked, answer chan struct{} }

func (m gatedMemory) ReadAt(p []byte, _ int64) (int, error) {
	m.asked <- struct{}{}
	<-m.answer
	return len(p), nil
}

func (m gatedMemory) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// Closing takes as long as hardware stays inside. An unmap meanwhile finds
// what the owners that are not closed yet hold: their devices still reach it.
func TestUnmapWhileClosing(t *testing.T) {
	e := newEnv(t, iommu.Contiguous, nil)
	far := gatedMemory{make(chan struct{}), make(chan struct{})}
	require.NoError(t, e.st.Map(0x10_0000, page, translate.Remote(far), r))
	slow := e.pin(e.o.Begin(1), 0x10_0000, page, r)
	d := e.space.NewDomain("dasd1")
	held := e.pin(e.p.NewOwner("dasd1", d, nil).Begin(2), 0x1_0000, page, rw)

	read, closed := make(chan error), make(chan error)
	go func() { read <- e.d.Read(slow.HPA(), make([]byte, 8)) }()
	<-far.asked
	go func() { closed <- e.p.Close() }()
	// The first owner's lease is gone from the ledger; its release waits.
	require.Eventually(t, func() bool { return len(e.p.Who(0x10_0000)) == 0 }, patience, tick)

	err := e.unmap(0x1_0000, 32*page, short)
	if err == nil {
		require.Error(t, d.Read(held.HPA(), make([]byte, 8)), "unmapped, and the device reaches it")
	}
	require.ErrorIs(t, err, errs.ErrBusy)
	require.ErrorContains(t, err, "dasd1 program 2")
	require.NoError(t, d.Read(held.HPA(), make([]byte, 8)))

	close(far.answer)
	require.NoError(t, <-closed)
	<-read
	require.Error(t, d.Read(held.HPA(), make([]byte, 8)))
	_, err = e.o.Begin(3).Pin(0x1_0000, page, r)
	require.ErrorIs(t, err, errs.ErrGone)
	require.NoError(t, e.unmap(0x1_0000, 32*page, patience))
}

// patience is how long a test waits for what must come.
const (
	patience = time.Minute
	tick     = time.Millisecond
)
