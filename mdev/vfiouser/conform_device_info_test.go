//go:build linux

package vfiouser

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// test_device_get_info.py.
func TestConformDeviceInfo(t *testing.T) {
	negotiated(t, nil).scenarios(t, []scenario{
		{"test_device_get_info: section 6, a short write", wire.CmdDeviceInfo, make([]byte, 8), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_get_info: section 6, bad argsz", wire.CmdDeviceInfo, wire.DeviceInfo{Argsz: 8}.Append(nil), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_get_info: section 6, a larger argsz; the reply has 16", wire.CmdDeviceInfo, wire.DeviceInfo{Argsz: 32}.Append(nil), 0, 0, 0, "",
			wire.DeviceInfo{Argsz: 16, Flags: wire.DeviceReset | wire.DevicePCI, Regions: 10, IRQs: 5}.Append(nil)},
		{"handle_device_get_info: section 6, flags in the request", wire.CmdDeviceInfo, wire.DeviceInfo{Argsz: 16, Flags: wire.DevicePCI}.Append(nil), 0, unix.EINVAL, 0, "zero-fields", nil},
		{"handle_device_get_info: a long payload", wire.CmdDeviceInfo, append(wire.DeviceInfo{Argsz: 16}.Append(nil), 0), 0, unix.EINVAL, 0, "exact-lengths", nil},
	})
}

// What our client makes of it.
func TestConformDeviceInfoClient(t *testing.T) {
	for api, flags := range deviceFlags {
		d := newDuo(t, nil, nil, func(dev *rigDevice) mdev.Device { dev.info.API = api; return dev })
		info, err := d.DeviceInfo(d.ctx)
		require.NoError(t, err)
		require.Equal(t, DeviceInfo{Flags: wire.DeviceReset | flags, Regions: 10, IRQs: 5}, info)
		require.Equal(t, api, info.API())
		require.NoError(t, d.Close())
	}
	require.Empty(t, DeviceInfo{Flags: wire.DeviceAMBA}.API())
}
