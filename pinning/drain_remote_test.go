package pinning_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// stuck is memory of a client that does not answer until it is let go.
type stuck struct{ asked, answer chan struct{} }

func (s *stuck) ReadAt(p []byte, _ int64) (int, error) {
	close(s.asked)
	<-s.answer
	return len(p), nil
}

func (s *stuck) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// A client that waits for an unmap of memory that the device never used may be
// unable to answer a message meanwhile; it is not made to wait for its own
// answer. An unmap of what the message is about does wait, since what it
// returns is that nothing uses that memory.
func TestUnmapBesideMessage(t *testing.T) {
	st, err := translate.New(nil)
	require.NoError(t, err)
	space := iommu.NewSpace(nil)
	p, err := pinning.New(st, space, &pinning.Config{Limit: pinning.Unlimited})
	require.NoError(t, err)
	client := &stuck{make(chan struct{}), make(chan struct{})}
	const used, other, n = addr.IOVA(1 << 30), addr.IOVA(2 << 30), addr.Len(1 << 20)
	require.NoError(t, st.Map(used, n, translate.Remote(client), addr.ReadWrite))
	require.NoError(t, st.Map(other, n, translate.Bytes(make([]byte, n)), addr.ReadWrite))

	d := space.NewDomain("device")
	o := p.NewOwner("device", d, nil)
	lease := o.Begin(1)
	pin, err := lease.Pin(used, 8, addr.Read)
	require.NoError(t, err)
	moved := make(chan error)
	go func() { moved <- d.Read(pin.HPA(), make([]byte, 8)) }()
	<-client.asked

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = st.Unmap(ctx, other, n)
	require.NoError(t, err)
	require.NoError(t, ctx.Err(), "the unmap waited for a message that it has nothing to do with")

	released, gone := make(chan struct{}), make(chan error)
	go func() { lease.Release(); close(released) }()
	go func() { _, err := st.Unmap(context.Background(), used, n); gone <- err }()
	select {
	case <-gone:
		require.Fail(t, "unmapped while a message is under way")
	case <-time.After(50 * time.Millisecond):
	}
	close(client.answer)
	require.NoError(t, <-moved)
	<-released
	require.NoError(t, <-gone)
	o.Close()
	d.Close()
	require.NoError(t, p.Close())
	require.NoError(t, st.Close())
}
