package unit_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/unit"
)

// FuzzDevices runs hostile programs on every device. Oracle: a program ends
// with one status, a unit check brings the sense bytes of the device and
// nothing else does; nothing panics.
func FuzzDevices(f *testing.F) {
	f.Add(byte(0), []byte{0x01, 0x0A, 0x03, 0x09}, []byte("data"), uint16(10))
	f.Add(byte(1), []byte{0x02, 0x42, 0xC2, 0x23}, []byte{}, uint16(100))
	f.Add(byte(2), []byte{0x09, 0x8B, 0xE3, 0xEB, 0xFB}, make([]byte, 240), uint16(0))
	f.Add(byte(3), []byte{0x01, 0x1F, 0x07, 0x02, 0x0C, 0x97}, []byte("block"), uint16(5))
	f.Add(byte(4), []byte{0xDB, 0x4F, 0x22, 0xAF, 0xB7, 0x9F}, []byte{0, 0, 0, 1}, uint16(12))
	f.Add(byte(5), []byte{0x06, 0x0A, 0xC2, 0x34}, []byte{1}, uint16(128))
	f.Add(byte(6), []byte{0x05, 0x01, 0x02, 0x06}, []byte("\xC3\x1D\x40\x13\x3C\x40\x40\x5C"), uint16(4000))
	f.Add(byte(7), []byte{0x11, 0x06, 0x0D, 0x11}, query, uint16(100))
	f.Fuzz(func(t *testing.T, kind byte, cmds, data []byte, in uint16) {
		var dev channel.Device
		senseSize := 0
		switch kind % 8 {
		case 0:
			con := unit.NewConsole3215(nil)
			con.Type(data)
			dev, senseSize = con, 1
		case 1:
			dev, senseSize = unit.NewReader(&unit.ReaderConfig{Cards: bytes.NewReader(deck(2))}), 4
		case 2:
			prt, err := unit.NewPrinter(nil)
			require.NoError(t, err)
			dev, senseSize = prt, 2
		case 3:
			dev, senseSize = newTape(t, unit.Tape3420), 24
		case 4:
			dev, senseSize = files(t, unit.Tape3490), 32
		case 5:
			dev, senseSize = files(t, unit.Tape3590), 32
		default:
			dsp, err := unit.NewDisplay3270(nil)
			require.NoError(t, err)
			dsp.Type(data)
			dev, senseSize = dsp, 1
		}
		m := machine(dev)
		var ops []op
		for i, c := range cmds[:min(len(cmds), 12)] {
			if cmd := cio.Command(c); cmd.Class(true) != cio.ClassTIC && cmd.Class(true) != cio.ClassInvalid {
				o := op{Cmd: cmd, Flags: cc | sli, Out: data}
				if cmd.Class(true).Input() {
					o = op{Cmd: cmd, Flags: cc | sli, In: int(in)}
				}
				if i%3 == 2 {
					o.Flags &^= sli
				}
				ops = append(ops, o)
			}
		}
		if len(ops) == 0 {
			return
		}
		r := m.Run(t, ops...)
		require.Len(t, m.IRBs, 1)
		if r.Device&cio.UnitCheck != 0 {
			require.Len(t, r.Sense, senseSize)
		} else {
			require.Empty(t, r.Sense)
			require.Equal(t, cio.Ended, r.Device&cio.Ended)
		}
		dev.Reset()
	})
}

// FuzzAWS reads tape images from anywhere. Oracle: an error, or a tape whose
// image is the same bytes again, every block of which can be read.
func FuzzAWS(f *testing.F) {
	f.Add(join(chunk(0xA0, 0, "ab"), chunk(0x40, 2, "")))
	f.Add(join(chunk(0x80, 0, "a"), chunk(0, 1, "b"), chunk(0x20, 1, "c")))
	f.Fuzz(func(t *testing.T, image []byte) {
		c, err := unit.ParseCartridge(image)
		if err != nil {
			return
		}
		var out bytes.Buffer
		_, err = c.WriteTo(&out)
		require.NoError(t, err)
		require.True(t, bytes.Equal(image, out.Bytes()))
		for i := range c.Len() {
			_, err := c.Block(i)
			require.NoError(t, err)
		}
	})
}
