package pci_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/pci"
)

// Spaces that somebody else made, well and badly.
func TestWalk(t *testing.T) {
	good := whole(t, space(t, everything()))
	for _, row := range []struct {
		name  string
		size  int
		poke  map[int]byte
		found int
		text  string // "" means that all is well
	}{
		{"all", 4096, nil, 7, ""},
		{"the conventional part of it", 256, nil, 5, ""},
		{"no list", 4096, map[int]byte{0x06: 0}, 0, ""},
		{"PCI 6.7: the two low bits of a pointer are ignored", 4096, map[int]byte{0x34: 0x43, 0x41: 0x4b}, 7, ""},
		{"an empty list", 256, map[int]byte{0x34: 3}, 0, ""},
		{"into the header", 256, map[int]byte{0x34: 0x10}, 0, "capability at 0x10: invalid argument"},
		{"into the header, later", 256, map[int]byte{0x49: 0x3c}, 2, "capability at 0x3c: invalid argument"},
		{"to itself", 256, map[int]byte{0x41: 0x40}, 1, "capability at 0x40 a second time: invalid argument"},
		{"to one before", 256, map[int]byte{0xa9: 0x48}, 5, "capability at 0x48 a second time: invalid argument"},
		{"at the end", 256, map[int]byte{0xa9: 0xfc, 0xfc: 0x09, 0xfd: 0}, 6, ""},
		{"no extended ones", 4096, map[int]byte{0x100: 0, 0x101: 0, 0x102: 0, 0x103: 0}, 5, ""},
		{"extended into the conventional", 4096, map[int]byte{0x102: 0xc1, 0x103: 0x0f}, 6, "capability at 0xfc: invalid argument"},
		{"extended to itself", 4096, map[int]byte{0x113: 0x11}, 7, "capability at 0x110 a second time: invalid argument"},
		{"extended at the end", 4096, map[int]byte{0x112: 0xc1, 0x113: 0xff}, 8, ""},
		{"of 64 bytes", 64, nil, 0, "configuration space of 64 bytes: invalid argument"},
		{"of none", 0, nil, 0, "configuration space of 0 bytes: invalid argument"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := append([]byte(nil), good[:row.size]...)
			for at, b := range row.poke {
				c[at] = b
			}
			found, err := pci.Walk(c)
			require.Len(t, found, row.found)
			if row.text == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, row.text)
			require.ErrorIs(t, err, errs.ErrInvalid)
		})
	}
}

func TestFindMSIX(t *testing.T) {
	c := whole(t, space(t, everything()))
	m, control, err := pci.FindMSIX(c)
	require.NoError(t, err)
	require.Equal(t, pci.MSIX{Vectors: 33, TableBAR: 0, PBABAR: 4, PBAOffset: 0x8000}, m)
	require.EqualValues(t, msixAt+pci.MSIXControl, control)

	_, _, err = pci.FindMSIX(whole(t, space(t, &pci.Config{})))
	require.ErrorIs(t, err, errs.ErrNotFound)
	_, _, err = pci.FindMSIX(nil)
	require.ErrorIs(t, err, errs.ErrInvalid)
	c[msixAt+4] = 7 // BAR 7
	_, _, err = pci.FindMSIX(c)
	require.EqualError(t, err, "MSI-X capability at 0x60: table in BAR 7, PBA in BAR 4: invalid argument")
	c[0x34], c[0xf8], c[0xf9] = 0xf8, byte(pci.IDMSIX), 0
	_, _, err = pci.FindMSIX(c)
	require.EqualError(t, err, "MSI-X capability at 0xf8: invalid argument")
}

// FuzzWalk's oracle: no panic; every capability lies in the space, in its part
// of it, and in no other's place; and a geometry that is found is one that
// NewMSIXTable takes.
func FuzzWalk(f *testing.F) {
	good := whole(f, space(f, everything()))
	f.Add(good[:256])
	f.Add(good[:0x180])
	f.Fuzz(func(t *testing.T, raw []byte) {
		size := pci.ConventionalSize
		if len(raw) > size {
			size = pci.ExpressSize
		}
		c := make([]byte, size)
		copy(c, raw)
		found, _ := pci.Walk(c)
		seen := make(map[uint32]bool)
		for _, p := range found {
			require.Zero(t, p.Offset%4)
			require.False(t, seen[p.Offset])
			seen[p.Offset] = true
			if p.ID&pci.Extended != 0 {
				require.Equal(t, uint32(p.ID&0xffff)|uint32(p.Version)<<16, binary.LittleEndian.Uint32(c[p.Offset:])&0xfffff)
			} else {
				require.Less(t, p.Offset, uint32(pci.ConventionalSize))
				require.EqualValues(t, p.ID, c[p.Offset])
			}
		}
		if m, control, err := pci.FindMSIX(c); err == nil {
			require.Less(t, control, uint32(pci.ConventionalSize))
			_, err := pci.NewMSIXTable(m, nil)
			require.NoError(t, err)
		}
	})
}
