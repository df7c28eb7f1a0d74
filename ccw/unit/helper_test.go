package unit_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/internal/devicetest"
)

type op = devicetest.Op

const (
	cc  = cio.ChainCommand
	cd  = cio.ChainData
	sli = cio.SuppressLength

	unitCheck     = cio.Ended | cio.UnitCheck
	unitException = cio.Ended | cio.UnitException
)

// machine puts a device at a subchannel.
func machine(dev channel.Device) *devicetest.Machine {
	return devicetest.NewMachine(dev, devicetest.PMCW(0x009), 1<<20)
}

// want is how a program ends.
type want struct {
	at      int
	device  cio.DeviceStatus // zero: cio.Ended
	channel cio.SubchannelStatus
	count   int
	sense0  byte // first sense byte of a unit check
	in      []byte
}

// check runs a program and compares how it ends.
func check(t *testing.T, m *devicetest.Machine, w want, ops ...op) devicetest.Result {
	t.Helper()
	if w.device == 0 {
		w.device = cio.Ended
	}
	r := m.Run(t, ops...)
	require.Equal(t, w.device, r.Device)
	require.Equal(t, w.channel, r.Channel)
	require.Equal(t, w.at, r.At, "CCW")
	require.Equal(t, w.count, r.Count, "residual")
	if w.device&cio.UnitCheck != 0 {
		require.NotEmpty(t, r.Sense)
		require.Equal(t, w.sense0, r.Sense[0], "sense %x", r.Sense)
	} else {
		require.Empty(t, r.Sense)
	}
	if w.in != nil {
		require.Equal(t, w.in, r.In[w.at][:len(w.in)])
	}
	return r
}
