package demo_test

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
	"github.com/softmdev/softmdev/mdev/pci"
)

// TestMSI: with interrupts=msi the function has MSI and no MSI-X, and raises as
// many vectors as the guest has enabled.
func TestMSI(t *testing.T) {
	dev, err := demo.New(&demo.Config{MSI: true})
	require.NoError(t, err)
	defer dev.Destroy()
	require.Zero(t, dev.Space.Find(pci.IDMSIX))
	require.Zero(t, dev.Info().IRQs[mdev.IRQMSIX].Count)
	require.EqualValues(t, demo.Vectors, dev.Info().IRQs[mdev.IRQMSI].Count)

	ctx := t.Context()
	s, err := mdev.Open(ctx, dev, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close(context.Background())) }()
	rang := make(chan int, 16)
	for v := range demo.Vectors {
		require.NoError(t, s.IRQs().Func(mdev.IRQMSI, v, func() { rang <- v }))
	}
	control := uint64(dev.Space.Find(pci.IDMSI) + pci.MSIControl)
	write := func(off uint64, v uint32) {
		require.NoError(t, s.Write(ctx, mdev.BAR0, off, binary.LittleEndian.AppendUint32(nil, v)))
	}
	for _, row := range []struct {
		enabled        byte // as a power of two
		vector, raised int
	}{{2, 3, 3}, {2, 1, 1}, {1, 3, 1}, {1, 2, 0}, {0, 3, 0}} {
		require.NoError(t, s.Write(ctx, mdev.Config, control, []byte{pci.MSIEnable | row.enabled<<4, 0}))
		write(demo.RegVector, uint32(row.vector))
		write(demo.RegCommand, demo.CommandRaise)
		select {
		case v := <-rang:
			require.Equal(t, row.raised, v, "%+v", row)
		case <-time.After(30 * time.Second):
			require.Fail(t, "no interrupt", "%+v", row)
		}
	}
	require.Empty(t, rang)
}
