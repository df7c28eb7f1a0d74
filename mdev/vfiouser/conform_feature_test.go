//go:build linux

package vfiouser

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

func reqFeature(argsz uint32, flags wire.FeatureFlags, data ...byte) []byte {
	return append(wire.DeviceFeature{Argsz: argsz, Flags: flags}.Append(nil), data...)
}

// test_migration.py, the part about DEVICE_FEATURE itself.
func TestConformFeature(t *testing.T) {
	const (
		get, set, probe = wire.FeatureGet, wire.FeatureSet, wire.FeatureProbe
		migration       = wire.FeatureFlags(wire.FeatureMigration)
		state           = wire.FeatureFlags(wire.FeatureMigDeviceState)
		report          = wire.FeatureFlags(wire.FeatureDMALoggingReport)
	)
	running := wire.MigState{State: uint32(mdev.MigRunning)}.Append(nil)
	reportOf := func(n uint64) []byte {
		return wire.LogReport{IOVA: 0x10000, Length: n, PageSize: 4096}.Append(nil)
	}
	negotiated(t, nil).scenarios(t, []scenario{
		{"test_device_feature_migration_get: section 16, STOP_COPY and PRE_COPY", wire.CmdFeature, reqFeature(16, get|migration), 0, 0, 0, "",
			reqFeature(16, get|migration, wire.MigrationFlags(5).Append(nil)...)},
		{"test_device_feature_short_write: section 16", wire.CmdFeature, reqFeature(16, get|migration)[:7], 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_feature_unsupported_operation: section 16", wire.CmdFeature, reqFeature(16, set|migration), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_feature_bad_argsz_probe: section 16", wire.CmdFeature, reqFeature(2, probe|migration), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_feature_bad_argsz_get_migration: section 16", wire.CmdFeature, reqFeature(8, get|migration), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_feature_bad_argsz_get_dma: section 16", wire.CmdFeature, reqFeature(8+24+8-1, get|report, reportOf(0x20000)...), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_feature_bad_argsz_set: section 16", wire.CmdFeature, reqFeature(8, set|state, running...), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_feature_probe: section 16, echoed", wire.CmdFeature, reqFeature(8, probe|migration), 0, 0, 0, "", reqFeature(8, probe|migration)},
		{"test_device_feature_probe: section 16, with what it cannot", wire.CmdFeature, reqFeature(8, probe|set|get|migration), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_feature_probe: section 16, with what it can", wire.CmdFeature, reqFeature(8, probe|set|get|state), 0, 0, 0, "", reqFeature(8, probe|set|get|state)},
		{"handle_device_feature: section 16, a feature that is none", wire.CmdFeature, reqFeature(8, probe|3), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"handle_device_feature: section 16, GET and SET at once", wire.CmdFeature, reqFeature(16, get|set|state, running...), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"handle_device_feature: section 16, no operation", wire.CmdFeature, reqFeature(16, state, running...), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"handle_device_feature: section 16, a bit above", wire.CmdFeature, reqFeature(8, probe|migration|1<<19), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_migration_get_state: section 16", wire.CmdFeature, reqFeature(16, get|state), 0, 0, 0, "", reqFeature(16, get|state, running...)},
		{"test_migration_nonexistent_state: section 16", wire.CmdFeature, reqFeature(16, set|state, wire.MigState{State: 0xabcd}.Append(nil)...), 0, unix.EINVAL, unix.EINVAL, "", nil},
	})
}

// test_migration.py: test_migration_shortest_state_transition_paths,
// test_migration_stop_copy_to_pre_copy_rejected. Every pair of states: there is
// a way or there is not, and our server agrees with a search that knows the
// arcs of section 16 and that no saving state may be in the middle.
func TestConformMigrationStates(t *testing.T) {
	arcs := map[mdev.MigState][]mdev.MigState{
		mdev.MigStop:     {mdev.MigRunning, mdev.MigStopCopy, mdev.MigResuming},
		mdev.MigRunning:  {mdev.MigStop, mdev.MigPreCopy},
		mdev.MigStopCopy: {mdev.MigStop},
		mdev.MigResuming: {mdev.MigStop},
		mdev.MigPreCopy:  {mdev.MigRunning, mdev.MigStopCopy},
	}
	saving := func(s mdev.MigState) bool { return s == mdev.MigPreCopy || s == mdev.MigStopCopy }
	reachable := func(from, to mdev.MigState) bool {
		if len(arcs[from]) == 0 || len(arcs[to]) == 0 || from == mdev.MigStopCopy && to == mdev.MigPreCopy {
			return false
		}
		seen, queue := map[mdev.MigState]bool{from: true}, []mdev.MigState{from}
		for ; len(queue) > 0; queue = queue[1:] {
			at := queue[0]
			if at == to {
				return true
			}
			if at != from && saving(at) {
				continue
			}
			for _, next := range arcs[at] {
				if !seen[next] {
					seen[next], queue = true, append(queue, next)
				}
			}
		}
		return false
	}
	d := newDuo(t, nil, nil, nil)
	// A RESUMING that was given no state is not left alive, so the device
	// takes whatever it is given.
	reach := func(from mdev.MigState) bool {
		require.NoError(t, d.Reset(d.ctx), "section 16: ERROR is left by a reset; it works from any state")
		st, err := d.MigrationState(d.ctx)
		require.NoError(t, err)
		require.Equal(t, mdev.MigRunning, st)
		return d.SetMigrationState(d.ctx, from) == nil
	}
	for from := mdev.MigError; from <= mdev.MigPreCopyP2P+1; from++ {
		for to := mdev.MigError; to <= mdev.MigPreCopyP2P+1; to++ {
			ok := reach(from)
			require.Equal(t, reachable(mdev.MigRunning, from), ok, "to %v", from)
			if !ok {
				continue
			}
			err := d.SetMigrationState(d.ctx, to)
			st, stErr := d.MigrationState(d.ctx)
			require.NoError(t, stErr)
			if reachable(from, to) {
				require.NoError(t, err, "%v to %v", from, to)
				require.Equal(t, to, st)
			} else {
				require.Equal(t, unix.EINVAL, errs.Errno(err), "%v to %v: %v", from, to, err)
				require.Equal(t, from, st)
			}
		}
	}
}

// test_migration.py: test_migration_failed_callback; test_quiesce.py:
// test_device_quiesce_error, test_allowed_funcs_in_quiesced_migration: a device
// that does not quiesce keeps its state, and its errno is that of the reply.
func TestConformMigrationQuiesce(t *testing.T) {
	var busy *busyDevice
	d := newDuo(t, nil, nil, func(dev *rigDevice) mdev.Device {
		busy = newBusy(dev, unix.ENOTTY)
		return busy
	})
	require.Equal(t, unix.ENOTTY, errs.Errno(d.SetMigrationState(d.ctx, mdev.MigStop)))
	st, err := d.MigrationState(d.ctx)
	require.NoError(t, err)
	require.Equal(t, mdev.MigRunning, st)
	require.Equal(t, int32(1), busy.quiesced.Load())
	busy.busy.Store(0)
	require.NoError(t, d.SetMigrationState(d.ctx, mdev.MigStopCopy))
	require.Equal(t, int32(2), busy.quiesced.Load())
	require.NoError(t, d.SetMigrationState(d.ctx, mdev.MigRunning))
}

// plainDevice cannot migrate.
type plainDevice struct{ mdev.Device }

// A device without migration has its features as little: section 16, and
// test_dirty_pages.py, test_dirty_pages_uninitialised_dma, where the log
// belongs to migration. Here it belongs to the memory and is always there.
func TestConformFeatureWithoutMigration(t *testing.T) {
	differs(t, "log-without-migration")
	d := newDuo(t, nil, nil, func(dev *rigDevice) mdev.Device {
		dev.info.Migration = 0
		return plainDevice{dev}
	})
	for _, err := range []error{
		d.ProbeFeature(d.ctx, wire.FeatureMigration, 0),
		d.ProbeFeature(d.ctx, wire.FeatureMigDeviceState, wire.FeatureGet),
		d.SetMigrationState(d.ctx, mdev.MigStop),
	} {
		require.Equal(t, unix.EINVAL, errs.Errno(err))
	}
	_, err := d.Migration(d.ctx)
	require.Equal(t, unix.EINVAL, errs.Errno(err))
	require.NoError(t, d.ProbeFeature(d.ctx, wire.FeatureDMALoggingStart, wire.FeatureSet))
	require.NoError(t, d.LogStart(d.ctx, 4096, nil))
	require.NoError(t, d.LogStop(d.ctx))
}

// Section 16: what is refused in STOP and STOP_COPY. There all but accesses,
// features and migration data is; here what the state does not speak against
// goes on, since a client may well map and arm while a device is stopped.
func TestConformStopped(t *testing.T) {
	differs(t, "stopped-commands")
	for _, tt := range []struct {
		state  mdev.MigState
		access unix.Errno
	}{{mdev.MigStop, 0}, {mdev.MigStopCopy, unix.EIO}, {mdev.MigResuming, unix.EIO}} {
		t.Run(fmt.Sprint(tt.state), func(t *testing.T) {
			d := newDuo(t, nil, nil, nil)
			require.NoError(t, d.SetMigrationState(d.ctx, tt.state))
			require.Equal(t, tt.access, errs.Errno(d.Read(d.ctx, rigRegs, 0, make([]byte, 4))))
			require.Equal(t, tt.access, errs.Errno(d.Write(d.ctx, rigRegs, 0, make([]byte, 4))))
			_, err := d.DeviceInfo(d.ctx)
			require.NoError(t, err)
			require.NoError(t, d.MapDMAFD(d.ctx, 0x1000, 0x1000, 3, memFile(t, 4096), 0))
			require.NoError(t, d.UnmapDMA(d.ctx, 0x1000, 0x1000))
			require.NoError(t, d.SetIRQs(d.ctx, mdev.IRQRequest{Flags: mdev.DataEventFD | mdev.ActionTrigger, Index: mdev.IRQMSIX, Count: 1, FDs: eventFDs(t, 1)}))
			require.NoError(t, d.Reset(d.ctx))
			st, err := d.MigrationState(context.Background())
			require.NoError(t, err)
			require.Equal(t, mdev.MigRunning, st)
			require.NoError(t, d.Read(d.ctx, rigRegs, 0, make([]byte, 4)))
		})
	}
}
