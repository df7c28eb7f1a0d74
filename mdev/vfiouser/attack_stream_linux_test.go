//go:build linux

package vfiouser

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// slowDevice makes its state, and takes one, when it is told to or its context
// ends.
type slowDevice struct{ *rigDevice }

func (d slowDevice) PreCopy(ctx context.Context, _ io.Writer) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func (d slowDevice) Load(ctx context.Context, _ io.Reader) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// A migration stream that does not come on keeps nobody from ending the server.
func TestAttackStreamThatStands(t *testing.T) {
	for name, x := range map[string]struct {
		state mdev.MigState
		frame []byte
	}{
		"reading": {mdev.MigPreCopy, frame(9, wire.CmdMigDataRead, 0, wire.MigData{Argsz: 108, Size: 100}.Append(nil))},
		"writing": {mdev.MigResuming, frame(9, wire.CmdMigDataWrite, 0, append(wire.MigData{Argsz: 12, Size: 4}.Append(nil), 1, 2, 3, 4))},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			dev := slowDevice{newRigDevice(t)}
			s, err := NewServer(OpenDevice(dev), nil)
			require.NoError(t, err)
			r := &rig{dev: dev.rigDevice, log: &testLog{}, s: s}
			r.attach(t)
			r.negotiate(rigJSON)
			set := wire.DeviceFeature{Argsz: 16, Flags: wire.FeatureSet | wire.FeatureFlags(wire.FeatureMigDeviceState)}
			r.ok(wire.CmdFeature, wire.MigState{State: uint32(x.state)}.Append(set.Append(nil)))
			r.write(x.frame)
			time.Sleep(10 * time.Millisecond) // it is at it
			closed := make(chan error, 1)
			go func() { closed <- s.Close() }()
			select {
			case err := <-closed:
				require.NoError(t, err)
			case <-time.After(10 * time.Second):
				require.FailNow(t, "the server does not close")
			}
			r.wait()
		})
	}
}
