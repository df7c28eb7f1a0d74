//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// config is configuration space in memory.
type config [256]byte

func (c *config) readConfig(off, n int) (uint32, error) {
	var b [4]byte
	copy(b[:], c[off:off+n])
	return binary.LittleEndian.Uint32(b[:]), nil
}

func TestCapability(t *testing.T) {
	var c config
	at, err := capability(&c, capMSIX)
	require.NoError(t, err)
	require.Zero(t, at, "there is no list")

	c[0x34] = 0x40
	copy(c[0x40:], []byte{capPower, 0x53}) // the low bits of a pointer are reserved
	copy(c[0x50:], []byte{capMSI, 0x60})
	copy(c[0x60:], []byte{capVendor, 0})
	for id, want := range map[uint32]int{capPower: 0x40, capMSI: 0x50, capVendor: 0x60, capMSIX: 0} {
		at, err := capability(&c, id)
		require.NoError(t, err)
		require.Equal(t, want, at, "%#x", id)
	}
	id, at, err := interruptsBy(&c)
	require.NoError(t, err)
	require.Equal(t, []any{uint32(capMSI), 0x50}, []any{id, at})

	c[0x61] = 0x40 // a ring
	at, err = capability(&c, capMSIX)
	require.NoError(t, err)
	require.Zero(t, at)
	c[0x50] = capVendor
	_, _, err = interruptsBy(&c)
	require.Error(t, err)
}

func TestCountersIn(t *testing.T) {
	const text = `            CPU0       CPU1
   0:         44          0   IO-APIC   2-edge      timer
 RES:          1         20   Rescheduling interrupts
 PIN:          7          0   Posted-interrupt notification event
 NPI:          0          0   Nested posted-interrupt event
 PIW:          3          4   Posted-interrupt wakeup event

`
	n, err := countersIn(text)
	require.NoError(t, err)
	require.Equal(t, [vectors]uint64{7, 7, 0, 21}, n)
	_, err = countersIn("RES: 1\n")
	require.ErrorContains(t, err, "1 of the 4")
}

func TestWindow(t *testing.T) {
	w := &window{make([]byte, 16)}
	w.write64(8, 0x1122334455667788)
	w.write32(0, 0xdeadbeef)
	w.write16(4, 0xcafe)
	w.write8(7, 0x5a)
	require.Equal(t, uint64(0x1122334455667788), w.read64(8))
	require.Equal(t, uint32(0xdeadbeef), w.read32(0))
	require.EqualValues(t, 0xcafe, w.read16(4))
	require.EqualValues(t, 0x5a, w.read8(7))
	require.Panics(t, func() { w.read32(14) }, "not aligned")
	require.Panics(t, func() { w.read64(16) }, "beyond the end")
	require.Panics(t, func() { w.write8(-1, 0) })
}

func TestReporter(t *testing.T) {
	var out bytes.Buffer
	r := &reporter{&out}
	r.check("good", func() error { return nil })
	r.check("bad", func() error { return errors.Join(errors.New("one"), errors.New("two")) })
	r.check("worse", func() error { panic("oh") })
	r.info("%d", 7)
	require.Equal(t, "PASS good\nFAIL bad: one; two\nFAIL worse: panic: oh\nINFO 7\n", out.String())
}
