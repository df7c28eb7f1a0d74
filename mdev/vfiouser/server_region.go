//go:build linux

package vfiouser

import (
	"fmt"
	"slices"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// regionRead executes REGION_READ. It allocates nothing.
//
// Spec: vfio-user.rst, "VFIO_USER_REGION_READ".
func (l *link) regionRead(m *message) error {
	if len(m.body) != wire.RegionAccessLen || len(m.fds) != 0 {
		return refuse("payload of %d bytes, %d files", len(m.body), len(m.fds))
	}
	r := wire.DecodeRegionAccess((*[wire.RegionAccessLen]byte)(m.body))
	if uint64(r.Count) > uint64(l.srv.cfg.MaxData) {
		return refuse("%v", r)
	}
	l.out = append(l.out, m.body...)
	at := len(l.out)
	l.out = slices.Grow(l.out, int(r.Count))[:at+int(r.Count)]
	if err := l.s.Read(l.ctx, int(r.Region), r.Offset, l.out[at:]); err != nil {
		return fmt.Errorf("%v: %w", r, err)
	}
	return nil
}

// regionWrite executes REGION_WRITE. It allocates nothing.
//
// Spec: vfio-user.rst, "VFIO_USER_REGION_WRITE".
func (l *link) regionWrite(m *message) error {
	if len(m.body) < wire.RegionAccessLen || len(m.fds) != 0 {
		return refuse("payload of %d bytes, %d files", len(m.body), len(m.fds))
	}
	r := wire.DecodeRegionAccess((*[wire.RegionAccessLen]byte)(m.body))
	data := m.body[wire.RegionAccessLen:]
	if uint64(r.Count) > uint64(l.srv.cfg.MaxData) || uint64(len(data)) != uint64(r.Count) {
		return refuse("%v, %d bytes", r, len(data))
	}
	if err := l.s.Write(l.ctx, int(r.Region), r.Offset, data); err != nil {
		return fmt.Errorf("%v: %w", r, err)
	}
	l.out = append(l.out, m.body[:wire.RegionAccessLen]...)
	return nil
}

// writeMulti executes REGION_WRITE_MULTI: all writes in order, up to the first
// that fails. As write(2), it fails itself only if that is the first.
//
// Spec: vfio-user.rst, "VFIO_USER_REGION_WRITE_MULTI".
func (l *link) writeMulti(m *message) error {
	if len(m.body) < wire.WriteMultiLen {
		return refuse("payload of %d bytes", len(m.body))
	}
	n := wire.DecodeCount((*[wire.WriteMultiLen]byte)(m.body))
	entries := m.body[wire.WriteMultiLen:]
	if n != uint64(len(entries)/wire.MultiEntryLen) || len(entries)%wire.MultiEntryLen != 0 {
		return refuse("%d bytes for %d writes", len(entries), n)
	}
	for b := entries; len(b) > 0; b = b[wire.MultiEntryLen:] {
		if e := wire.DecodeMultiEntry((*[wire.MultiEntryLen]byte)(b)); e.Count == 0 || e.Count > uint32(len(e.Data)) {
			return refuse("write %d: %v", (len(entries)-len(b))/wire.MultiEntryLen, e)
		}
	}
	done := uint64(0)
	for b := entries; len(b) > 0; b = b[wire.MultiEntryLen:] {
		e := wire.DecodeRegionAccess((*[wire.RegionAccessLen]byte)(b))
		data := b[wire.RegionAccessLen:][:e.Count]
		if err := l.s.Write(l.ctx, int(e.Region), e.Offset, data); err != nil {
			err = fmt.Errorf("write %d: %v: %w", done, e, err)
			if done == 0 {
				return err
			}
			l.refused(m, err)
			break
		}
		done++
	}
	l.out = wire.AppendCount(l.out, done)
	return nil
}
