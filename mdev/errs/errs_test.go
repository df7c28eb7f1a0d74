package errs

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProgramErrorText(t *testing.T) {
	err := At("ccw", 3, 0x2010, In("IDAW", 2, Addr("iova", 0x7000, ErrNotMapped)))
	require.Equal(t, "ccw[3] at 0x2010: IDAW 2: iova 0x7000: not mapped", err.Error())
	require.ErrorIs(t, err, ErrNotMapped)
	require.ErrorIs(t, err, syscall.EINVAL)
	require.NotErrorIs(t, err, ErrMisaligned, "two sentinels of one errno stay apart")
	var pe *ProgramError
	require.True(t, errors.As(err, &pe))
	require.Equal(t, 3, pe.Index)
	require.Equal(t, uint64(0x2010), pe.At)
}

func TestErrno(t *testing.T) {
	require.Equal(t, syscall.Errno(0), Errno(nil))
	require.Equal(t, syscall.EIO, Errno(errors.New("no errno inside")))
	require.Equal(t, syscall.EEXIST, Errno(fmt.Errorf("map: %w", ErrExists)))
	require.Equal(t, syscall.EPERM, Errno(Addr("iova", 1, ErrPermission)))
}
