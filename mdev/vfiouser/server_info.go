//go:build linux

package vfiouser

import (
	"fmt"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// deviceFlags are the flags of DEVICE_GET_INFO by kind of device.
var deviceFlags = map[mdev.API]wire.DeviceFlags{
	mdev.APIPCI:      wire.DevicePCI,
	mdev.APICCW:      wire.DeviceCCW,
	mdev.APIPlatform: wire.DevicePlatform,
}

// deviceInfo executes DEVICE_GET_INFO.
//
// Spec: vfio-user.rst, "VFIO_USER_DEVICE_GET_INFO".
func (l *link) deviceInfo(m *message) error {
	if err := exactly(m, wire.DeviceInfoLen); err != nil {
		return err
	}
	r := wire.DecodeDeviceInfo((*[wire.DeviceInfoLen]byte)(m.body))
	if r.Argsz < wire.DeviceInfoLen || r.Flags != 0 || r.Regions != 0 || r.IRQs != 0 {
		return refuse("%v", r)
	}
	info := wire.DeviceInfo{
		Argsz: wire.DeviceInfoLen, Flags: deviceFlags[l.info.API],
		Regions: uint32(len(l.info.Regions)), IRQs: uint32(len(l.info.IRQs)),
	}
	if l.info.Reset {
		info.Flags |= wire.DeviceReset
	}
	l.out = info.Append(l.out)
	return nil
}

// regionInfo executes DEVICE_GET_REGION_INFO.
//
// Spec: vfio-user.rst, "VFIO_USER_DEVICE_GET_REGION_INFO".
func (l *link) regionInfo(m *message) error {
	if err := exactly(m, wire.RegionInfoLen); err != nil {
		return err
	}
	r := wire.DecodeRegionInfo((*[wire.RegionInfoLen]byte)(m.body))
	if r.Argsz < wire.RegionInfoLen || uint64(r.Index) >= uint64(len(l.info.Regions)) ||
		r.Flags != 0 || r.CapOffset != 0 || r.Size != 0 || r.Offset != 0 {
		return refuse("%v", r)
	}
	region := &l.info.Regions[r.Index]
	info := wire.RegionInfo{Argsz: wire.RegionInfoLen, Index: r.Index, Size: region.Size}
	if region.Size != 0 {
		info.Flags = wire.RegionFlags(region.Flags & (mdev.RegionRead | mdev.RegionWrite))
	}
	mmap := region.Size != 0 && region.Flags&mdev.RegionMmap != 0 && region.Memory != nil && l.maxFDs > 0
	if mmap {
		info.Flags |= wire.RegionMmap
		info.Offset = region.MemoryOffset
	}
	caps := regionCaps(region, mmap)
	info.Argsz += uint32(len(caps))
	switch {
	case info.Argsz > r.Argsz:
		// Too little room: the client learns how much, and asks again. The file
		// comes with the whole answer only.
		l.out = info.Append(l.out)
		return nil
	case len(caps) != 0:
		info.Flags |= wire.RegionCaps
		info.CapOffset = wire.RegionInfoLen
	}
	l.out = append(info.Append(l.out), caps...)
	if mmap {
		l.outFDs = append(l.outFDs, int(region.Memory.Fd()))
	}
	return nil
}

// regionCaps are the capabilities of a region. What may be mapped is always
// spelled out, also where it is the whole region: there are clients that take
// a file only together with the list.
func regionCaps(region *mdev.RegionInfo, mmap bool) []byte {
	var areas []wire.SparseArea
	if mmap {
		for _, a := range region.Areas {
			areas = append(areas, wire.SparseArea(a))
		}
		if len(areas) == 0 {
			areas = []wire.SparseArea{{Size: region.Size}}
		}
	}
	var typ *wire.RegionType
	if region.Type != nil {
		typ = &wire.RegionType{Type: region.Type.Type, Subtype: region.Type.Subtype}
	}
	return wire.AppendRegionCaps(nil, areas, typ)
}

// irqInfo executes DEVICE_GET_IRQ_INFO.
//
// Spec: vfio-user.rst, "VFIO_USER_DEVICE_GET_IRQ_INFO".
func (l *link) irqInfo(m *message) error {
	if err := exactly(m, wire.IRQInfoLen); err != nil {
		return err
	}
	r := wire.DecodeIRQInfo((*[wire.IRQInfoLen]byte)(m.body))
	if r.Argsz < wire.IRQInfoLen || r.Flags != 0 || r.Count != 0 || uint64(r.Index) >= uint64(len(l.info.IRQs)) {
		return refuse("%v", r)
	}
	irq := &l.info.IRQs[r.Index]
	l.out = wire.IRQInfo{
		Argsz: wire.IRQInfoLen, Flags: wire.IRQFlags(irq.Flags), Index: r.Index, Count: irq.Count,
	}.Append(l.out)
	return nil
}

// setIRQs executes DEVICE_SET_IRQS.
//
// Spec: vfio-user.rst, "VFIO_USER_DEVICE_SET_IRQS".
func (l *link) setIRQs(m *message) error {
	if len(m.body) < wire.SetIRQsLen {
		return refuse("payload of %d bytes", len(m.body))
	}
	r := wire.DecodeSetIRQs((*[wire.SetIRQsLen]byte)(m.body))
	bools := m.body[wire.SetIRQsLen:]
	files := len(m.fds)
	want := uint64(0)
	if r.Flags&wire.SetDataBool != 0 {
		want = uint64(r.Count)
	}
	switch {
	case uint64(r.Argsz) < uint64(len(m.body)):
		return refuse("argsz %d of %d bytes", r.Argsz, len(m.body))
	case uint64(len(bools)) != want:
		return refuse("%d bytes for %d vectors", len(bools), r.Count)
	case files != 0 && (r.Flags&wire.SetDataEventFD == 0 || uint64(files) != uint64(r.Count)):
		return refuse("%d files for %d vectors, flags %v", files, r.Count, r.Flags)
	}
	req := mdev.IRQRequest{
		Flags: mdev.IRQSetFlags(r.Flags), Index: r.Index, Start: r.Start, Count: r.Count,
		Bools: bools, FDs: m.fds,
	}
	m.fds = m.fds[:0] // taken over whatever comes of it
	if err := l.s.SetIRQs(req); err != nil {
		return fmt.Errorf("%v: %w", r, err)
	}
	return nil
}

// regionIOFDs executes DEVICE_GET_REGION_IO_FDS.
//
// Spec: vfio-user.rst, "VFIO_USER_DEVICE_GET_REGION_IO_FDS".
func (l *link) regionIOFDs(m *message) error {
	if err := exactly(m, wire.IOFDsLen); err != nil {
		return err
	}
	r := wire.DecodeIOFDs((*[wire.IOFDsLen]byte)(m.body))
	if r.Argsz < wire.IOFDsLen || r.Flags != 0 || r.Count != 0 || uint64(r.Index) >= uint64(len(l.info.Regions)) {
		return refuse("%v", r)
	}
	events, err := l.s.IOEventFDs(int(r.Index))
	if err != nil {
		return err
	}
	// What does not fit in the files that the client takes is not offered: a
	// write does the same.
	events = events[:min(len(events), l.maxFDs, maxSendFDs)]
	reply := wire.IOFDs{
		Argsz: wire.IOFDsLen + uint32(len(events))*wire.IOFDLen, Index: r.Index, Count: uint32(len(events)),
	}
	l.out = reply.Append(l.out)
	if reply.Argsz > r.Argsz {
		return nil
	}
	for i, e := range events {
		fd := wire.IOFD{Offset: e.Offset, Size: uint64(e.Size), Index: uint32(i), Type: wire.IOEventFD}
		if e.Match != nil {
			fd.Flags, fd.Data = wire.IOEventFDMatch, *e.Match
		}
		l.out = fd.Append(l.out)
		l.outFDs = append(l.outFDs, e.FD)
	}
	return nil
}
