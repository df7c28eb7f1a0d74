package translate

import (
	"encoding/binary"
	"iter"
	"slices"

	"github.com/softmdev/softmdev/translate/addr"
)

// Info is what VFIO_IOMMU_GET_INFO reports.
type Info struct {
	PageSizes      uint64                  // supported page sizes, one bit each
	Ranges         []addr.Range[addr.IOVA] // valid windows, ascending; empty: all
	DMAAvail       uint32                  // mappings that may still be made
	DirtyPageSizes uint64                  // page sizes that the dirty log is kept in
	MaxDirtyBitmap addr.Len                // largest dirty bitmap of one call, bytes
}

// Info reports the limits of s.
func (s *Store) Info() Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Info{
		PageSizes:      s.pageSizes,
		Ranges:         slices.Clone(s.ranges),
		DMAAvail:       uint32(s.max - s.count),
		DirtyPageSizes: 1 << s.pageShift,
		MaxDirtyBitmap: maxDirtyBitmap,
	}
}

// Capabilities of VFIO_IOMMU_GET_INFO.
// Spec: Linux include/uapi/linux/vfio.h, struct vfio_info_cap_header.
const (
	capIOVARange = 1
	capMigration = 2
	capDMAAvail  = 3
	capVersion   = 1
)

// AppendCaps appends the capability chain that follows the fixed part of the
// GET_INFO reply: MIGRATION, DMA_AVAIL and, unless all addresses are valid,
// IOVA_RANGE, in the kernel's order and in the byte order of the machine. at
// is the offset from the start of the reply at which the chain begins, a
// multiple of 8: the links of the chain count from there.
//
//	header      u16 id, u16 version, u32 offset of the next header or 0
//	MIGRATION   u32 flags, u32 pad, u64 page sizes, u64 largest bitmap
//	DMA_AVAIL   u32 mappings that may still be made, u32 pad
//	IOVA_RANGE  u32 number, u32 reserved, then u64 start, u64 last each
//
// The kernel's DMA_AVAIL is 12 bytes, padded to 16 where the next header
// begins; here it is always padded.
func (i Info) AppendCaps(b []byte, at int) []byte {
	start, last := len(b), -1
	header := func(id uint16) {
		if last >= 0 {
			binary.NativeEndian.PutUint32(b[last+4:], uint32(at+len(b)-start))
		}
		last = len(b)
		b = binary.NativeEndian.AppendUint16(b, id)
		b = binary.NativeEndian.AppendUint16(b, capVersion)
		b = binary.NativeEndian.AppendUint32(b, 0)
	}
	header(capMigration)
	b = binary.NativeEndian.AppendUint64(b, 0) // flags and pad
	b = binary.NativeEndian.AppendUint64(b, i.DirtyPageSizes)
	b = binary.NativeEndian.AppendUint64(b, uint64(i.MaxDirtyBitmap))
	header(capDMAAvail)
	b = binary.NativeEndian.AppendUint32(b, i.DMAAvail)
	b = binary.NativeEndian.AppendUint32(b, 0)
	if len(i.Ranges) != 0 {
		header(capIOVARange)
		b = binary.NativeEndian.AppendUint32(b, uint32(len(i.Ranges)))
		b = binary.NativeEndian.AppendUint32(b, 0)
		for _, r := range i.Ranges {
			b = binary.NativeEndian.AppendUint64(b, uint64(r.Start()))
			b = binary.NativeEndian.AppendUint64(b, uint64(r.Last()))
		}
	}
	return b
}

// Mapping describes one mapping.
type Mapping struct {
	Range     addr.Range[addr.IOVA]
	Access    addr.Access
	Kind      Kind     // while suspended: what it was
	HVA       addr.HVA // of the first byte; 0 for KindRemote and while suspended
	ID        uint32   // as in Run
	Suspended bool
}

// Mappings yields the mappings in ascending order, as they were when the
// iteration began.
func (s *Store) Mappings() iter.Seq[Mapping] {
	return func(yield func(Mapping) bool) {
		for _, m := range s.mappings() {
			if !yield(m) {
				return
			}
		}
	}
}

func (s *Store) mappings() []Mapping {
	s.mu.Lock()
	defer s.mu.Unlock()
	ms := make([]Mapping, 0, s.count)
	for _, r := range s.records(0, ^uint64(0)) {
		a := metaAttr(r.meta)
		g, _ := addr.RangeLast(addr.IOVA(r.start), addr.IOVA(r.end()))
		ms = append(ms, Mapping{g, a.Access, a.Kind, addr.HVA(r.base), a.ID, r.meta&metaSuspended != 0})
	}
	return ms
}

// records yields the records of the published mappings that share a byte with
// [a, b], in ascending order.
//
// Precondition: s.mu is held.
func (s *Store) records(a, b uint64) iter.Seq2[uint32, *record] {
	return func(yield func(uint32, *record) bool) {
		v := s.hot.view.Load()
		for e := v.first(a, b); e != 0; e = v.first(a, b) {
			r := &v.recs[e]
			if !yield(e, r) || r.end() >= b {
				return
			}
			a = r.end() + 1
		}
	}
}
