//go:build linux

package vfiouser

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

func reqMig(argsz, size uint32, data ...byte) []byte {
	return append(wire.MigData{Argsz: argsz, Size: size}.Append(nil), data...)
}

// test_migration.py, MIG_DATA_READ and MIG_DATA_WRITE: what is refused, in the
// states in which the test asks.
func TestConformMigData(t *testing.T) {
	to := func(t *testing.T, r *rig, s mdev.MigState) {
		t.Helper()
		const f = wire.FeatureSet | wire.FeatureFlags(wire.FeatureMigDeviceState)
		r.ok(wire.CmdFeature, reqFeature(16, f, wire.MigState{State: uint32(s)}.Append(nil)...))
	}
	for _, tt := range []struct {
		state mdev.MigState
		rows  []scenario
	}{
		{mdev.MigRunning, []scenario{
			{"test_handle_mig_data_read: section 16, in RUNNING", wire.CmdMigDataRead, reqMig(12, 4), 0, unix.EINVAL, unix.EINVAL, "", nil},
			{"test_handle_mig_data_write_invalid_state: section 16", wire.CmdMigDataWrite, reqMig(12, 4, 1, 2, 3, 4), 0, unix.EINVAL, unix.EINVAL, "", nil},
		}},
		{mdev.MigPreCopy, []scenario{
			{"test_handle_mig_data_read_too_long: section 16, more than max_data_xfer_size", wire.CmdMigDataRead, reqMig(1<<20+9, 1<<20+1), 0, unix.EINVAL, unix.EINVAL, "", nil},
			{"test_handle_mig_data_read_short_write: section 16", wire.CmdMigDataRead, reqMig(12, 4)[:7], 0, unix.EINVAL, unix.EINVAL, "", nil},
			{"handle_mig_data_read: section 16, argsz has no room for size", wire.CmdMigDataRead, reqMig(11, 4), 0, unix.EINVAL, unix.EINVAL, "", nil},
			{"handle_mig_data_read: section 16, a long payload", wire.CmdMigDataRead, reqMig(12, 4, 0, 0, 0, 0), 0, unix.EINVAL, 0, "exact-lengths", nil},
			{"test_handle_mig_data_read: section 16, in PRE_COPY", wire.CmdMigDataRead, reqMig(12, 4), 0, 0, 0, "", reqMig(12, 4, []byte("earl")...)},
			{"test_handle_mig_data_read: section 16, the end for now", wire.CmdMigDataRead, reqMig(12, 4), 0, 0, 0, "", reqMig(9, 1, 'y')},
			{"test_handle_mig_data_read: section 16, nothing more", wire.CmdMigDataRead, reqMig(12, 4), 0, 0, 0, "", reqMig(8, 0)},
		}},
	} {
		t.Run(tt.state.String(), func(t *testing.T) {
			r := negotiated(t, nil)
			to(t, r, tt.state)
			r.scenarios(t, tt.rows)
		})
	}
	// In these states no register can be read, which is how rows see whether
	// the session goes on.
	for _, tt := range []struct {
		name    string
		state   mdev.MigState
		c       wire.Command
		payload []byte
		want    unix.Errno
	}{
		{"test_handle_mig_data_read: section 16, in STOP_COPY", mdev.MigStopCopy, wire.CmdMigDataRead, reqMig(12, 4), 0},
		{"test_handle_mig_data_write: section 16", mdev.MigResuming, wire.CmdMigDataWrite, reqMig(12, 4, 1, 2, 3, 4), 0},
		{"test_handle_mig_data_write_too_long: section 16", mdev.MigResuming, wire.CmdMigDataWrite, reqMig(12, 4, 1, 2, 3, 4, 5), unix.EINVAL},
		{"test_handle_mig_data_write_short_write: section 16", mdev.MigResuming, wire.CmdMigDataWrite, reqMig(12, 4), unix.EINVAL},
		{"handle_mig_data_write: section 16, argsz", mdev.MigResuming, wire.CmdMigDataWrite, reqMig(11, 4, 1, 2, 3, 4), unix.EINVAL},
		{"test_handle_mig_data_read: section 16, in RESUMING", mdev.MigResuming, wire.CmdMigDataRead, reqMig(12, 4), unix.EINVAL},
		{"test_handle_mig_data_read: section 16, in STOP", mdev.MigStop, wire.CmdMigDataRead, reqMig(12, 4), unix.EINVAL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := negotiated(t, nil)
			to(t, r, tt.state)
			require.Equal(t, tt.want, r.errno(tt.c, tt.payload))
			r.ok(wire.CmdDeviceReset, nil)
			r.alive()
		})
	}
}

// A migration, by our client, from one server to another: PRE_COPY while the
// device runs, the rest when it is stopped; what is read there is written here.
func TestConformMigration(t *testing.T) {
	for _, xfer := range []int{1, 7, 4096, 1 << 20} {
		src := newDuo(t, &ServerConfig{MaxData: max(xfer, 64)}, nil, nil)
		dst := newDuo(t, nil, nil, nil)
		require.NoError(t, src.SetMigrationState(src.ctx, mdev.MigPreCopy))
		require.NoError(t, dst.SetMigrationState(dst.ctx, mdev.MigResuming))
		p := make([]byte, xfer)
		var stream []byte
		drain := func() {
			for {
				n, err := src.ReadMigration(src.ctx, p)
				if err == io.EOF {
					return
				}
				require.NoError(t, err)
				stream = append(stream, p[:n]...)
				require.NoError(t, dst.WriteMigration(dst.ctx, p[:n]))
			}
		}
		drain()
		require.Equal(t, "early", string(stream))
		require.NoError(t, src.SetMigrationState(src.ctx, mdev.MigStopCopy))
		drain()
		require.True(t, bytes.Equal(append([]byte("early"), src.dev.state...), stream))
		require.NoError(t, dst.SetMigrationState(dst.ctx, mdev.MigStop))
		require.True(t, bytes.Equal(stream, look(dst.dev, &dst.dev.loaded)))
		require.NoError(t, dst.SetMigrationState(dst.ctx, mdev.MigRunning))
		require.NoError(t, dst.Read(dst.ctx, rigRegs, 0, make([]byte, 4)))
		require.NoError(t, src.SetMigrationState(src.ctx, mdev.MigStop))
		require.NoError(t, src.Close())
		require.NoError(t, dst.Close())
		if testing.Short() {
			return
		}
	}
}

// failing cannot save, or load.
type failing struct{ *rigDevice }

func (failing) Save(context.Context, io.Writer) error { return unix.ENOSPC }
func (failing) Load(context.Context, io.Reader) error { return unix.ENOEXEC }

// test_migration.py: test_handle_mig_data_read_failed_callback,
// test_handle_mig_data_write_failed_callback: the errno of the device.
func TestConformMigDataFails(t *testing.T) {
	d := newDuo(t, nil, nil, func(dev *rigDevice) mdev.Device { return failing{dev} })
	require.NoError(t, d.SetMigrationState(d.ctx, mdev.MigStopCopy))
	_, err := d.ReadMigration(d.ctx, make([]byte, 8))
	require.Equal(t, unix.ENOSPC, errs.Errno(err))
	require.NoError(t, d.SetMigrationState(d.ctx, mdev.MigResuming))
	require.Equal(t, unix.ENOEXEC, errs.Errno(d.WriteMigration(d.ctx, make([]byte, 8))))
	require.Error(t, d.SetMigrationState(d.ctx, mdev.MigStop))
	st, err := d.MigrationState(d.ctx)
	require.NoError(t, err)
	require.Equal(t, mdev.MigError, st, "section 16: left by DEVICE_RESET alone")
	require.NoError(t, d.Reset(d.ctx))
	require.NoError(t, d.Read(d.ctx, rigRegs, 0, make([]byte, 4)))
}
