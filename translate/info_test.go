package translate

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Linux include/uapi/linux/vfio.h: the capability chain of
// VFIO_IOMMU_GET_INFO, read the way a client reads it.
func TestCapabilityChain(t *testing.T) {
	msi := []addr.Range[addr.IOVA]{
		addr.MustRange(addr.IOVA(0), 0xfee0_0000),
		addr.MustRange(addr.IOVA(0xfef0_0000), 1<<48-0xfef0_0000),
	}
	for _, tt := range []struct {
		name string
		cfg  Config
		want []uint16
	}{
		{"no reserved window: IOVA_RANGE left out, as in a container with mediated devices only", Config{}, []uint16{2, 3}},
		{"an MSI window", Config{Ranges: msi, MaxMappings: 7, PageSizes: 1<<16 | 1<<21}, []uint16{2, 3, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestStore(t, &tt.cfg)
			require.NoError(t, s.Map(0, 1<<16, Process(0x10000), rw))
			info := s.Info()
			const at = 24 // sizeof(struct vfio_iommu_type1_info)
			reply := info.AppendCaps(make([]byte, at), at)
			require.Zero(t, len(reply)%8)
			var ids []uint16
			for off := uint32(at); off != 0; {
				h := reply[off:]
				id := binary.NativeEndian.Uint16(h)
				ids = append(ids, id)
				require.Equal(t, uint16(1), binary.NativeEndian.Uint16(h[2:]), "version")
				switch id {
				case 1:
					require.Equal(t, uint32(len(msi)), binary.NativeEndian.Uint32(h[8:]))
					for i, r := range msi {
						require.Equal(t, uint64(r.Start()), binary.NativeEndian.Uint64(h[16+16*i:]))
						require.Equal(t, uint64(r.Last()), binary.NativeEndian.Uint64(h[24+16*i:]))
					}
				case 2:
					require.Equal(t, uint64(1)<<s.pageShift, binary.NativeEndian.Uint64(h[16:]), "dirty page size")
					require.Equal(t, uint64(256<<20), binary.NativeEndian.Uint64(h[24:]), "largest bitmap")
				case 3:
					require.Equal(t, uint32(s.max-1), binary.NativeEndian.Uint32(h[8:]), "dma_avail")
				}
				next := binary.NativeEndian.Uint32(h[4:])
				require.True(t, next == 0 || next > off && next%8 == 0 && int(next) < len(reply))
				off = next
			}
			require.Equal(t, tt.want, ids)
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"a negative limit":    {MaxMappings: -1},
		"a limit without end": {MaxMappings: 1 << 30},
		"a negative deadline": {Deadline: -1},
		"overlapping ranges":  {Ranges: []addr.Range[addr.IOVA]{addr.MustRange(addr.IOVA(0x1000), 0x2000), addr.MustRange(addr.IOVA(0), 0x1001)}},
	} {
		_, err := New(&cfg)
		require.ErrorIs(t, err, errs.ErrInvalid, name)
	}
}

func TestClosedStoreRefusesMaps(t *testing.T) {
	s := newTestStore(t, nil)
	require.NoError(t, s.Map(0x1000, pg, Process(0x1000), rw))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Map(0x1000, pg, Process(0x1000), rw), errs.ErrGone)
	require.Empty(t, s.mappings())
}

func TestMemoryIsChecked(t *testing.T) {
	s := newTestStore(t, nil)
	for name, m := range map[string]Memory{
		"none":                     {},
		"bytes shorter than asked": Bytes(make([]byte, pg-1)),
		"no bytes":                 Bytes(nil),
		"no remote":                Remote(nil),
		"no descriptor":            File(-1, 0),
		"a negative offset":        File(0, -int64(pg)),
	} {
		require.ErrorIs(t, s.Map(0x1000, pg, m, rw), errs.ErrInvalid, name)
	}
	require.ErrorIs(t, s.Map(0x1000, 2*pg, File(0, math.MaxInt64&^int64(pg-1)), rw), errs.ErrOverflow)
	require.ErrorIs(t, s.Map(0x1000, pg, File(0, 1), rw), errs.ErrMisaligned)
	require.EqualError(t, s.Map(0x1000, pg, Process(0x1800), rw), "iova 0x1000: misaligned")
	require.Empty(t, s.mappings())
}
