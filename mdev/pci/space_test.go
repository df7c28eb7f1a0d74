package pci_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/pci"
)

// What a driver writes and what it reads back, each on a new function: one row
// for each sentence of the specifications.
func TestWrites(t *testing.T) {
	for _, row := range []struct {
		name   string
		off    uint64
		width  int
		write  uint64
		read   uint64
		before func(s *pci.Space) error // what the device did
	}{
		{"PCI 6.2.1: vendor ID is read-only", 0x00, 4, 0xffffffff, 0x56781234, nil},
		{"PCI 6.2.1: class and revision are read-only", 0x08, 4, 0xffffffff, 0xff010203, nil},
		{"PCIe 7.5.1.1.3: command, all ones", 0x04, 2, 0xffff, 0x0547, nil},
		{"PCIe 7.5.1.1.3: special cycles, write and invalidate, palette snooping, stepping, fast back-to-back are 0", 0x04, 2, 0x02b8, 0, nil},
		{"PCI 6.2.3: status, 0 written clears nothing", 0x06, 2, 0, 0x8118, status(0x8108)},
		{"PCI 6.2.3: status, 1 written clears that bit", 0x06, 2, 0x8000, 0x0118, status(0x8108)},
		{"PCI 6.2.3: interrupt status is the device's", 0x06, 2, 0xffff, 0x0018, status(0x0008)},
		{"PCI 6.2.4: cache line size is written", 0x0c, 1, 0x10, 0x10, nil},
		{"PCIe 7.5.1.1.8: latency timer is 0", 0x0d, 1, 0xff, 0, nil},
		{"PCI 6.2.1: header type 0, one function", 0x0e, 1, 0xff, 0, nil},
		{"PCI 6.2.5.1: size of 32-bit memory", 0x10, 4, 0xffffffff, 0xfffff000, nil},
		{"PCI 6.2.5.1: address of 32-bit memory", 0x10, 4, 0xfebd1fff, 0xfebd1000, nil},
		{"PCI 6.2.5.1: size of I/O", 0x14, 4, 0xffffffff, 0xffffffc1, nil},
		{"PCI 6.2.5.1: address of I/O", 0x14, 4, 0x0000c0ff, 0x0000c0c1, nil},
		{"PCI 6.2.5.1: size of 64-bit prefetchable memory of 8 GiB", 0x18, 8, 0xffffffffffffffff, 0xfffffffe0000000c, nil},
		{"PCI 6.2.5.1: address of it", 0x18, 8, 0x00000043ffffffff, 0x000000420000000c, nil},
		{"PCI 6.2.5.1: lower half of it alone", 0x18, 4, 0xffffffff, 0x0000000c, nil},
		{"PCI 6.2.5.1: size of 64-bit memory of 1 MiB", 0x20, 8, 0xffffffffffffffff, 0xfffffffffff00004, nil},
		{"a BAR byte by byte: the third", 0x12, 1, 0xab, 0xab, nil},
		{"a BAR byte by byte: the second has 4 bits", 0x11, 1, 0xff, 0xf0, nil},
		{"PCI 6.2.4: subsystem IDs are read-only", 0x2c, 4, 0, 0xdef09abc, nil},
		{"PCI 6.2.5.2: size of the ROM (what Linux writes)", 0x30, 4, 0xfffff800, 0xffff0000, nil},
		{"PCI 6.2.5.2: enable of the ROM", 0x30, 4, 0xffffffff, 0xffff0001, nil},
		{"PCI 6.7: capabilities pointer is read-only", 0x34, 1, 0xff, powerAt, nil},
		{"PCI 6.2.4: interrupt line is written", 0x3c, 1, 0x0b, 0x0b, nil},
		{"PCI 6.2.4: interrupt pin is read-only", 0x3d, 1, 0xff, 1, nil},

		{"PM 3.2.1: ID and next are read-only", powerAt, 2, 0, 0x4801, nil},
		{"PM 3.2.3: version 3, D1", powerAt + 2, 2, 0, 0x0203, nil},
		{"PM 3.2.4: D1", powerAt + 4, 2, 0x0001, 0x0001, nil},
		{"PM 3.2.4: D2 that is not there changes nothing", powerAt + 4, 2, 0x0002, 0x0000, nil},
		{"PM 3.2.4: D3hot", powerAt + 4, 2, 0xffff, 0x0003, nil},

		{"PCI 6.8.1.3: MSI control: 4 vectors, 64 bits, masking", msiAt + 2, 2, 0, 0x0184, nil},
		{"PCI 6.8.1.3: MSI control: enable, vectors enabled", msiAt + 2, 2, 0xffff, 0x01f5, nil},
		{"PCI 6.8.1.4: MSI address is one of dwords", msiAt + 4, 4, 0xffffffff, 0xfffffffc, nil},
		{"PCI 6.8.1.5: MSI upper address", msiAt + 8, 4, 0xffffffff, 0xffffffff, nil},
		{"PCI 6.8.1.6: MSI data has 16 bits", msiAt + 0xc, 4, 0xffffffff, 0x0000ffff, nil},
		{"PCI 6.8.1.7: MSI mask has a bit for each vector", msiAt + 0x10, 4, 0xffffffff, 0xf, nil},
		{"PCI 6.8.1.8: MSI pending is read-only", msiAt + 0x14, 4, 0, 0x5,
			func(s *pci.Space) error { return s.Set(msiAt+pci.MSIPending64, 5) }},

		{"PCI 6.8.2.3: MSI-X control: vectors - 1 is read-only", msixAt + 2, 2, 0x3fff, 0x0020, nil},
		{"PCI 6.8.2.3: MSI-X control: enable, function mask", msixAt + 2, 2, 0xffff, 0xc020, nil},
		{"PCI 6.8.2.4: MSI-X table is read-only", msixAt + 4, 4, 0xffffffff, 0, nil},
		{"PCI 6.8.2.5: MSI-X PBA is read-only", msixAt + 8, 4, 0xffffffff, 0x8004, nil},

		{"PCIe 7.5.3.2: version 2, endpoint", expressAt + 2, 2, 0xffff, 0x0002, nil},
		{"PCIe 7.5.3.3: role-based errors, FLR, payload of 256", expressAt + 4, 4, 0, 0x10008001, nil},
		{"PCIe 7.5.3.4: device control after reset: relaxed ordering, no snoop, 512-byte reads", expressAt + 8, 1, 0x10, 0x10, nil},
		{"PCIe 7.5.3.4: device control, all ones but FLR", expressAt + 8, 2, 0x7fff, 0x78ff, nil},
		{"PCIe 7.5.3.5: device status, 1 written clears, pending stays", expressAt + 0xa, 2, 0x0003, 0x002c,
			func(s *pci.Space) error { return s.Set(expressAt+pci.ExpressDeviceStatus, 0x2f) }},
		{"PCIe 7.5.3.7: link control", expressAt + 0x10, 2, 0xffff, 0x00cb, nil},
		{"PCIe 7.5.3.8: link status is read-only", expressAt + 0x12, 2, 0xffff, 0x0011, nil},
		{"PCIe 7.5.3: slot and root registers of an endpoint are 0", expressAt + 0x14, 8, ^uint64(0), 0, nil},
		{"PCIe 7.5.3.16: completion timeout can be disabled", expressAt + 0x28, 2, 0xffff, 0x0010, nil},

		{"PCI H: vendor-specific length", vendorAt + 2, 1, 0, 9, nil},
		{"PCI H: vendor-specific data", vendorAt + 3, 8, ^uint64(0), 0x0605_04ff_f201, nil},
		{"PCIe 7.6.3: extended header, next at 0x110", dvsecAt, 4, 0, 0x11010023, nil},
		{"PCIe 7.9.6.1: DVSEC vendor, revision, length", dvsecAt + 4, 4, 0, 0x00f11e98, nil},
		{"PCIe 7.9.6: DVSEC identifier and data", dvsecAt + 8, 8, ^uint64(0), 0x03_00ff_0001_0008, nil},
		{"PCIe 7.6.3: the last one", dvsecAt + 0x10, 4, 0, 0x00010023, nil},
		{"nothing there", 0x200, 8, ^uint64(0), 0, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := space(t, everything())
			if row.before != nil {
				require.NoError(t, row.before(s))
			}
			put(t, s, row.off, row.width, row.write)
			require.Equal(t, fmt.Sprintf("%#x", row.read), fmt.Sprintf("%#x", get(t, s, row.off, row.width)))
		})
	}
}

func status(bits uint64) func(s *pci.Space) error {
	return func(s *pci.Space) error { return s.Set(pci.RegStatus, bits) }
}

// What New refuses, and how it says so.
func TestNewRefuses(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(c *pci.Config)
		err    error
		text   string
	}{
		{"PCI 6.2.1: vendor 0xffff", func(c *pci.Config) { c.Vendor = 0xffff }, errs.ErrInvalid, "vendor 0xffff is the answer of an empty slot: invalid argument"},
		{"class of 25 bits", func(c *pci.Config) { c.Class = 1 << 24 }, errs.ErrInvalid, "class 0x1000000 of more than 24 bits: invalid argument"},
		{"pin 5", func(c *pci.Config) { c.InterruptPin = 5 }, errs.ErrInvalid, "interrupt pin 5: invalid argument"},
		{"BAR of 3000 bytes", bar(0, pci.BAR{Size: 3000}), errs.ErrInvalid, "BAR 0: size 0xbb8, want a power of two from 0x10 to 0x80000000: invalid argument"},
		{"memory of 8 bytes", bar(0, pci.BAR{Size: 8}), errs.ErrInvalid, ""},
		{"32-bit memory of 4 GiB", bar(0, pci.BAR{Size: 4 << 30}), errs.ErrInvalid, ""},
		{"I/O of 512 bytes", bar(1, pci.BAR{Size: 512, IO: true}), errs.ErrInvalid, "BAR 1: size 0x200, want a power of two from 0x4 to 0x100: invalid argument"},
		{"I/O of 2 bytes", bar(1, pci.BAR{Size: 2, IO: true}), errs.ErrInvalid, ""},
		{"64-bit I/O", bar(1, pci.BAR{Size: 16, IO: true, Is64: true}), errs.ErrInvalid, "BAR 1: I/O space with 64 bits or prefetchable: invalid argument"},
		{"prefetchable I/O", bar(1, pci.BAR{Size: 16, IO: true, Prefetch: true}), errs.ErrInvalid, ""},
		{"flags without a size", bar(1, pci.BAR{Prefetch: true}), errs.ErrInvalid, ""},
		{"64-bit BAR 5", bar(5, pci.BAR{Size: 4096, Is64: true}), errs.ErrInvalid, ""},
		{"64-bit BAR before another", bar(1, pci.BAR{Size: 4096, Is64: true}), errs.ErrInvalid, "BAR 1: 64 bits without a free register behind it: invalid argument"},
		{"BAR in an upper half", bar(3, pci.BAR{Size: 4096}), errs.ErrInvalid, ""},
		{"ROM of 1 KiB", func(c *pci.Config) { c.ROM = 1 << 10 }, errs.ErrInvalid, "ROM of 0x400 bytes, want a power of two from 2 KiB to 16 MiB: invalid argument"},
		{"ROM of 3 KiB", func(c *pci.Config) { c.ROM = 3 << 10 }, errs.ErrInvalid, ""},
		{"ROM of 32 MiB", func(c *pci.Config) { c.ROM = 32 << 20 }, errs.ErrInvalid, ""},
		{"two MSI", add(pci.MSI{Vectors: 1}), errs.ErrExists, "a second MSI capability: already exists"},
		{"two PCIe", add(pci.Express{}), errs.ErrExists, ""},
		{"MSI of 3 vectors", only(pci.MSI{Vectors: 3}), errs.ErrInvalid, "MSI capability: 3 vectors, want a power of two up to 32: invalid argument"},
		{"MSI of no vectors", only(pci.MSI{}), errs.ErrInvalid, ""},
		{"MSI of 64 vectors", only(pci.MSI{Vectors: 64}), errs.ErrInvalid, ""},
		{"MSI-X of no vectors", only(pci.MSIX{}), errs.ErrInvalid, "MSI-X capability: 0 vectors, want 1 to 2048: invalid argument"},
		{"MSI-X of 2049 vectors", only(pci.MSIX{Vectors: 2049, PBABAR: 4}), errs.ErrInvalid, ""},
		{"MSI-X table in BAR 6", only(pci.MSIX{Vectors: 1, TableBAR: 6}), errs.ErrInvalid, "MSI-X capability: table in BAR 6, PBA in BAR 0: invalid argument"},
		{"MSI-X PBA in BAR -1", only(pci.MSIX{Vectors: 1, PBABAR: -1}), errs.ErrInvalid, ""},
		{"MSI-X table at 4", only(pci.MSIX{Vectors: 1, TableOffset: 4, PBAOffset: 0x800}), errs.ErrInvalid, ""},
		{"MSI-X table over PBA", only(pci.MSIX{Vectors: 2, TableOffset: 0x7f0, PBAOffset: 0x800}), errs.ErrInvalid, "MSI-X capability: table at 0x7f0 and PBA at 0x800 overlap: invalid argument"},
		{"MSI-X PBA over table", only(pci.MSIX{Vectors: 65, TableOffset: 0x8, PBAOffset: 0}), errs.ErrInvalid, ""},
		{"MSI-X table beyond its BAR", only(pci.MSIX{Vectors: 2, TableOffset: 0xff0}), errs.ErrInvalid, "MSI-X capability: table reaches to 0x1010, memory in BAR 0 has 0x1000: invalid argument"},
		{"MSI-X table far beyond its BAR", only(pci.MSIX{Vectors: 1, TableOffset: 0xfffffff8}), errs.ErrInvalid, ""},
		{"MSI-X PBA in I/O", only(pci.MSIX{Vectors: 1, PBABAR: 1}), errs.ErrInvalid, ""},
		{"MSI-X PBA in no BAR", only(pci.MSIX{Vectors: 1, PBABAR: 3}), errs.ErrInvalid, ""},
		{"payload of 64", only(pci.Express{MaxPayload: 64}), errs.ErrInvalid, "PCIe capability: payload of 64 bytes, want a power of two from 128 to 4096: invalid argument"},
		{"payload of 8192", only(pci.Express{MaxPayload: 8192}), errs.ErrInvalid, ""},
		{"payload of 129", only(pci.Express{MaxPayload: 129}), errs.ErrInvalid, ""},
		{"payload of -128", only(pci.Express{MaxPayload: -128}), errs.ErrInvalid, ""},
		{"vendor data of 253 bytes", only(pci.Vendor{Data: make([]byte, 253)}), errs.ErrNoSpace, ""},
		{"vendor data of 252 bytes", only(pci.Vendor{Data: make([]byte, 252)}), errs.ErrNoSpace, "vendor capability of 0x100 bytes at 0x40: no space left"},
		{"more writable than there is", only(pci.Vendor{Data: []byte{1}, Write: []byte{1, 2}}), errs.ErrInvalid, "vendor capability: 2 bytes may be written, there are 1: invalid argument"},
		{"DVSEC without PCIe", only(pci.DVSEC{}), errs.ErrInvalid, "an extended capability without a PCIe one: invalid argument"},
		{"DVSEC of 4096 bytes", add(pci.DVSEC{Data: make([]byte, 4086)}), errs.ErrNoSpace, ""},
		{"DVSEC beyond the space", add(pci.DVSEC{Data: make([]byte, 3803)}), errs.ErrNoSpace, "DVSEC capability of 0xee8 bytes at 0x11c: no space left"},
		{"DVSEC of revision 16", add(pci.DVSEC{Revision: 16}), errs.ErrInvalid, ""},
		{"DVSEC: more writable than there is", add(pci.DVSEC{Write: []byte{1}}), errs.ErrInvalid, ""},
		{"nil is none", only(nil), errs.ErrInvalid, "capability 0 is nil: invalid argument"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := everything()
			row.change(c)
			s, err := pci.New(c)
			require.ErrorIs(t, err, row.err)
			require.Nil(t, s)
			if row.text != "" {
				require.EqualError(t, err, row.text)
			}
		})
	}
}

func bar(i int, b pci.BAR) func(*pci.Config) { return func(c *pci.Config) { c.BARs[i] = b } }
func add(x pci.Capability) func(*pci.Config) {
	return func(c *pci.Config) { c.Capabilities = append(c.Capabilities, x) }
}
func only(x pci.Capability) func(*pci.Config) {
	return func(c *pci.Config) { c.Capabilities = []pci.Capability{x} }
}

// The largest of each, and the least: what New takes.
func TestNewTakes(t *testing.T) {
	for name, c := range map[string]*pci.Config{
		"nothing": {},
		"largest BARs": {BARs: [6]pci.BAR{{Size: 1 << 31}, {Size: 256, IO: true}, {Size: 1 << 63, Is64: true}, {},
			{Size: 16, Is64: true}}},
		"smallest BARs":    {BARs: [6]pci.BAR{{Size: 16}, {Size: 4, IO: true}}},
		"most MSI-X":       {BARs: [6]pci.BAR{{Size: 64 << 10}}, Capabilities: []pci.Capability{pci.MSIX{Vectors: 2048, PBAOffset: 0x8000}}},
		"most MSI":         {Capabilities: []pci.Capability{pci.MSI{Vectors: 32, Mask: true}}},
		"most vendor data": {Capabilities: []pci.Capability{pci.Vendor{Data: make([]byte, 0xc0-3)}}},
		"most DVSEC data":  {Capabilities: []pci.Capability{pci.DVSEC{Data: make([]byte, 0xf00-0xa)}, pci.Express{MaxPayload: 4096}}},
		"pointers":         {Capabilities: []pci.Capability{&pci.Power{D2: true}, &pci.MSI{Vectors: 2}}},
		"integrated":       {Capabilities: []pci.Capability{pci.Express{Integrated: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := space(t, c)
			found, err := pci.Walk(whole(t, s))
			require.NoError(t, err)
			require.Equal(t, s.Capabilities(), found)
			require.Len(t, found, len(c.Capabilities))
			put(t, s, pci.RegCommand, 2, 0xffff)
			anyBAR := c.BARs != [6]pci.BAR{}
			if s.Find(pci.IDMSI) != 0 {
				require.Equal(t, 1, s.MSI().Vectors)
			}
			s.Reset()
			put(t, s, pci.RegCommand, 2, 0xffff)
			require.Equal(t, anyBAR, s.Command()&pci.CommandMaster != 0, "nothing to be reached at, nothing to reach for")
		})
	}
}

// MSI without 64 bits or masking is shorter: the offsets of linux/pci_regs.h.
func TestMSILayouts(t *testing.T) {
	for _, row := range []struct {
		msi                 pci.MSI
		data, mask, pending uint64
		size                uint32
	}{
		{pci.MSI{Vectors: 32}, 0x08, 0, 0, 0x0c},
		{pci.MSI{Vectors: 32, Is64: true}, 0x0c, 0, 0, 0x10},
		{pci.MSI{Vectors: 32, Mask: true}, 0x08, 0x0c, 0x10, 0x14},
		{pci.MSI{Vectors: 32, Mask: true, Is64: true}, 0x0c, 0x10, 0x14, 0x18},
	} {
		t.Run(fmt.Sprintf("%+v", row.msi), func(t *testing.T) {
			var state pci.MSIState
			s := space(t, &pci.Config{
				Capabilities: []pci.Capability{row.msi, pci.Vendor{}},
				OnMSI:        func(st pci.MSIState) { state = st },
			})
			require.Equal(t, 0x40+row.size, s.Find(pci.IDVendor))
			put(t, s, 0x44, 4, 0xfee00000)
			want := pci.MSIState{Vectors: 1, Addr: 0xfee00000}
			if row.msi.Is64 {
				put(t, s, 0x48, 4, 1)
				want.Addr |= 1 << 32
			}
			put(t, s, 0x40+row.data, 2, 0x4021)
			want.Data = 0x4021
			if row.msi.Mask {
				put(t, s, 0x40+row.mask, 4, 0x80000001)
				want.Mask = 0x80000001
				require.NoError(t, s.Set(uint32(0x40+row.pending), 1<<31))
				require.Equal(t, uint64(1<<31), get(t, s, 0x40+row.pending, 4))
				require.NoError(t, s.Clear(uint32(0x40+row.pending), 1<<31))
				require.Zero(t, get(t, s, 0x40+row.pending, 4))
			}
			require.Equal(t, want, state)
			put(t, s, 0x42, 2, 0x0051)
			want.Enabled, want.Vectors = true, 32
			require.Equal(t, want, state)
			require.Equal(t, want, s.MSI())
			put(t, s, 0x42, 2, 0x0071)
			require.Equal(t, 32, state.Vectors, "a reserved number of vectors")
		})
	}
}

// Set and Clear are the device's, and reach what is the device's.
func TestSetAndClear(t *testing.T) {
	s := space(t, everything())
	for _, row := range []struct {
		off  uint32
		bits uint64
		ok   bool
	}{
		{pci.RegStatus, pci.StatusErrors | pci.StatusInterrupt, true},
		{pci.RegStatus, pci.StatusCapabilities, false},
		{pci.RegStatus, 1 << 16, false},
		{pci.RegStatus + 1, 1, false},
		{pci.RegCommand, 1, false},
		{pci.RegVendor, 1, false},
		{0x200, 1, false},
		{1 << 31, 1, false},
		{expressAt + pci.ExpressDeviceStatus, pci.DeviceStatusErrors, true},
	} {
		before := whole(t, s)
		err := s.Set(row.off, row.bits)
		if !row.ok {
			require.ErrorIs(t, err, errs.ErrInvalid, "%+v", row)
			require.ErrorIs(t, s.Clear(row.off, row.bits), errs.ErrInvalid)
		} else {
			require.NoError(t, err, "%+v", row)
			require.NotEqual(t, before, whole(t, s))
			require.NoError(t, s.Clear(row.off, row.bits))
		}
		require.Equal(t, before, whole(t, s))
	}
	s.Pending(true)
	require.EqualValues(t, pci.DeviceStatusPending, get(t, s, expressAt+pci.ExpressDeviceStatus, 2))
	s.Pending(false)
	require.Zero(t, get(t, s, expressAt+pci.ExpressDeviceStatus, 2))
	space(t, &pci.Config{}).Pending(true) // nobody to tell
}

// Where the function answers, as far as the space decides.
func TestBAR(t *testing.T) {
	s := space(t, everything())
	put(t, s, 0x10, 4, 0xfebd1000)
	put(t, s, 0x14, 4, 0xc000)
	put(t, s, 0x18, 8, 0x4200000000)
	at := func(i int) (uint64, bool) { return s.BAR(i) }
	for i, want := range map[int]uint64{0: 0xfebd1000, 1: 0xc000, 2: 0x4200000000, 4: 0} {
		a, on := at(i)
		require.Equal(t, want, a)
		require.False(t, on, "after a reset")
		put(t, s, pci.RegCommand, 2, 0x7)
		_, on = at(i)
		require.True(t, on)
		put(t, s, powerAt+pci.PowerControl, 2, uint64(pci.D3hot))
		_, on = at(i)
		require.False(t, on, "asleep")
		put(t, s, powerAt+pci.PowerControl, 2, uint64(pci.D0)) // a soft reset
		put(t, s, 0x10, 4, 0xfebd1000)
		put(t, s, 0x14, 4, 0xc000)
		put(t, s, 0x18, 8, 0x4200000000)
	}
	put(t, s, pci.RegCommand, 2, uint64(pci.CommandIO))
	_, on := at(0)
	require.False(t, on)
	_, on = at(1)
	require.True(t, on)
	for _, i := range []int{-1, 3, 5, 6} {
		_, on := at(i)
		require.False(t, on)
	}
}

func TestBounds(t *testing.T) {
	s := space(t, everything())
	require.EqualValues(t, 4096, s.Size())
	require.ErrorIs(t, s.Read(4095, make([]byte, 2)), errs.ErrInvalid)
	require.ErrorIs(t, s.Write(1<<63, make([]byte, 2)), errs.ErrInvalid)
	s = space(t, &pci.Config{Capabilities: []pci.Capability{pci.MSI{Vectors: 1}}})
	require.EqualValues(t, 256, s.Size())
	require.ErrorIs(t, s.Read(0x100, make([]byte, 1)), errs.ErrInvalid)
	require.Zero(t, s.Find(pci.IDExpress))
}

func TestStrings(t *testing.T) {
	require.Equal(t, "IO|MEMORY|MASTER|PARITY|SERR|INTX_DISABLE|0x80", (pci.Command(0x547) | 0x80).String())
	require.Equal(t, "0", pci.Command(0).String())
	require.Equal(t, "D3hot", pci.D3hot.String())
	for id, want := range map[pci.CapabilityID]string{
		pci.IDPower: "PM", pci.IDMSI: "MSI", pci.IDVendor: "vendor", pci.IDExpress: "PCIe", pci.IDMSIX: "MSI-X",
		pci.IDDVSEC: "DVSEC", 0x3: "0x3", pci.Extended | 1: "extended 0x1",
	} {
		require.Equal(t, want, id.String())
	}
}
