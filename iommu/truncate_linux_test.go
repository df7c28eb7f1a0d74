package iommu

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

func TestTruncatedBacking(t *testing.T) {
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Ftruncate(fd, 2*int64(page)))
	mem, err := unix.Mmap(fd, 0, 2*int(page), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	defer unix.Munmap(mem)
	s := NewSpace(nil)
	d := s.NewDomain("a")
	w, err := s.NewWindow(0, 2, Backing{HVA: hvaOf(mem)})
	require.NoError(t, err)
	r := reach(t, d, w, 0)
	r.Grant(3, addr.ReadWrite)
	b := make([]byte, 8)
	require.NoError(t, d.Write(r.HPA(1), b))
	require.NoError(t, unix.Ftruncate(fd, int64(page)))
	require.ErrorIs(t, d.Read(r.HPA(1), b), errs.ErrFault)
	require.ErrorIs(t, d.Write(r.HPA(1), b), errs.ErrFault)
	require.ErrorIs(t, d.Read(r.HPA(0)+0xffc, b), errs.ErrFault)
	require.NoError(t, d.Read(r.HPA(0), b), "the rest of the device's memory lives")
	require.Equal(t, uint64(3), d.FaultCount())
	require.True(t, d.Idle(), "who met a fault has left")
}
