package demo_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// FuzzGuest's oracle: whatever a guest writes to the device while its memory is
// mapped and unmapped, the engine is refused nothing by package iommu (a refused
// access is one that nobody translated); bytes beside the mapped ones, and those
// of a read-only mapping, stay as they are; every command ends, and nothing is
// pinned then; registers that are read-only read as they did.
func FuzzGuest(f *testing.F) {
	le := binary.LittleEndian.AppendUint32
	seed := func(op, src, dst, n uint32) []byte {
		var b []byte
		for _, w := range [][2]uint32{{demo.RegSrc, src}, {demo.RegDst, dst}, {demo.RegLen, n}, {demo.RegCommand, op}} {
			b = append(b, 0, byte(w[0]), 0)
			b = le(b, w[1])
		}
		return b
	}
	f.Add(seed(demo.CommandCopy, 0x1000, 0x3000, 0x1000), true)
	f.Add(append(seed(demo.CommandFill, 0, 0x800, 0x2000), 2, 0, 3, 1, 0, 4), false)
	f.Add(append(append([]byte{4}, seed(demo.CommandChecksum, 0x5000, 0, 0x3000)...), 5, 6, 7), true)
	f.Add(append(seed(demo.CommandCopy, 0, 0x6800, 0x800), 3, 1), false)
	const page, pages = 4096, 8
	f.Fuzz(func(t *testing.T, ops []byte, scattered bool) {
		layout := iommu.Contiguous
		if scattered {
			layout = iommu.Scattered
		}
		r := newRig(t, &mdev.SessionConfig{Space: iommu.NewSpace(&iommu.Config{Layout: layout, Seed: 3})})
		for v := range r.irqs {
			require.NoError(t, r.IRQs().Func(mdev.IRQMSIX, v, func() {}))
		}
		// Pages with a page beside each; the last one is read-only.
		all := noise(2 * pages * page)
		want := bytes.Clone(all)
		mapped := make([]bool, pages)
		toggle := func(i int) {
			iova := addr.IOVA(i * page)
			if mapped[i] {
				_, err := r.Unmap(r.ctx, iova, page)
				require.NoError(t, err)
			} else {
				access := addr.ReadWrite
				if i == pages-1 {
					access = addr.Read
				}
				mem := translate.Bytes(all[2*i*page:][:page])
				if i%3 == 2 {
					mem = translate.Remote(newRemote(all[2*i*page:][:page]))
				}
				require.NoError(t, r.Map(iova, page, mem, access))
			}
			mapped[i] = !mapped[i]
		}
		for i := range pages {
			toggle(i)
		}
		next := func() (v byte) {
			if len(ops) > 0 {
				v, ops = ops[0], ops[1:]
			}
			return v
		}
		for n := 0; len(ops) > 0 && n < 100; n++ {
			switch next() % 8 {
			case 0: // a register, most often
				off := uint64(next()) | uint64(next()&0xf)<<8
				p := []byte{next(), next(), next(), next()}
				if off+4 <= demo.BAR0Size {
					require.NoError(t, r.Write(r.ctx, mdev.BAR0, off, p))
				}
			case 1: // a byte of any region
				regions := []int{mdev.BAR0, mdev.BAR1, mdev.BAR2, mdev.Config}
				region := regions[next()%4]
				off := (uint64(next()) | uint64(next())<<8) % r.Info().Regions[region].Size
				require.NoError(t, r.Write(r.ctx, region, off, []byte{next()}))
			case 2, 3:
				toggle(int(next()) % pages)
			case 4:
				require.NoError(t, r.Quiesce(r.ctx))
			case 5:
				r.Unquiesce()
			case 6:
				if next()%4 == 0 {
					require.NoError(t, r.Reset(r.ctx))
				} else {
					r.flr()
				}
			case 7:
				r.master(next()%4 != 0)
			}
		}
		r.Unquiesce()
		for r.read(demo.RegStatus)&demo.StatusBusy != 0 {
			require.NoError(t, r.dev.Idle(r.ctx))
		}
		require.NoError(t, r.Quiesce(r.ctx))
		require.Zero(t, r.Pinner().Charged())
		require.Zero(t, r.dev.Domain().FaultCount(), "%v", r.dev.Domain().Faults())
		for i := range pages {
			beside := all[(2*i+1)*page:][:page]
			require.True(t, bytes.Equal(want[(2*i+1)*page:][:page], beside), "beside page %d", i)
		}
		last := 2 * (pages - 1) * page
		require.True(t, bytes.Equal(want[last:last+page], all[last:last+page]), "the read-only page")
		require.EqualValues(t, demo.IDValue, r.read(demo.RegID))
		require.EqualValues(t, demo.VersionValue, r.read(demo.RegVersion))
		require.Zero(t, r.read(demo.RegCommand))
		r.close()
	})
}
