package fba_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/fba"
	"github.com/softmdev/softmdev/ccw/internal/devicetest"
)

// FuzzProgram runs hostile programs. Oracle: the program ends with status;
// blocks outside the last extent that was accepted keep their content; nothing
// panics.
func FuzzProgram(f *testing.F) {
	f.Add([]byte{}, uint32(0), uint32(0), uint32(7), uint16(2), uint32(3), byte(6), byte(0))
	f.Add([]byte{0x63, 0x43, 0x41}, uint32(4), uint32(9), uint32(20), uint16(2), uint32(10), byte(5), byte(0))
	f.Add([]byte{0x02, 0x42}, uint32(0xFFFFFFFF), uint32(1), uint32(0), uint16(0xFFFF), uint32(0xFFFFFFFF), byte(5), byte(0xC0))
	f.Fuzz(func(t *testing.T, cmds []byte, start, first, last uint32, n uint16, at uint32, op, mask byte) {
		const blocks = 64
		img := memory(t, pattern(blocks))
		_, m := newVolume(t, img)
		e := extent(mask, start, first, last-first+1)
		l := locate(op, n, at)
		ops := []devicetest.Op{}
		for _, c := range cmds[:min(len(cmds), 16)] {
			o := devicetest.Op{Cmd: cio.Command(c), Flags: cc | sli, Out: block(0xEE), In: 700}
			switch {
			case c == 0x63:
				o = e
			case c == 0x43:
				o = l
			case cio.Command(c).Class(true) == cio.ClassTIC:
				continue
			}
			ops = append(ops, o)
		}
		ops = append(ops, devicetest.Op{Cmd: cio.NOP, Flags: sli})
		r := m.Run(t, ops...)
		require.Len(t, m.IRBs, 1)
		require.Equal(t, r.Device&cio.UnitCheck != 0, len(r.Sense) == fba.SenseSize)
		if bytes.IndexByte(cmds, 0x02) >= 0 {
			return // read IPL: the extent is the volume
		}
		for b := range uint32(blocks) {
			inside := start < blocks && last >= first && b >= start && uint64(b-start) <= uint64(last-first)
			if !inside {
				require.Equal(t, block(byte(b)+1), img.View(int64(b)*fba.BlockSize, fba.BlockSize), "block %d", b)
			}
		}
	})
}

// FuzzOpenImage reads images from anywhere. Oracle: an error, or a whole number of
// blocks within the limit.
func FuzzOpenImage(f *testing.F) {
	f.Add([]byte("CKD_P370"))
	f.Add(make([]byte, 512))
	f.Fuzz(func(t *testing.T, b []byte) {
		img, err := fba.NewMemory(b)
		if err != nil {
			require.True(t, len(b) == 0 || len(b)%fba.BlockSize != 0)
			return
		}
		_, m := newVolume(t, img)
		r := m.Run(t, devicetest.Op{Cmd: 0x02, In: 512})
		require.Equal(t, b[:512], r.In[0])
	})
}
