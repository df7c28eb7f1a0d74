package pci_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/pci"
	"github.com/softmdev/softmdev/mdev/reg/regtest"
)

// everything is a function with one of each: the table of doc.go is its.
func everything() *pci.Config {
	return &pci.Config{
		Vendor: 0x1234, Device: 0x5678, SubVendor: 0x9abc, SubDevice: 0xdef0,
		Class: 0xff0102, Revision: 3, InterruptPin: 1, ROM: 64 << 10,
		BARs: [6]pci.BAR{
			0: {Size: 4 << 10},
			1: {Size: 64, IO: true},
			2: {Size: 8 << 30, Is64: true, Prefetch: true},
			4: {Size: 1 << 20, Is64: true},
		},
		Capabilities: []pci.Capability{
			pci.Power{D1: true, SoftReset: true},
			pci.MSI{Vectors: 4, Is64: true, Mask: true},
			pci.MSIX{Vectors: 33, TableBAR: 0, PBABAR: 4, PBAOffset: 0x8000},
			pci.Express{FLR: true, MaxPayload: 256},
			pci.Vendor{Data: []byte{1, 2, 3, 4, 5, 6}, Write: []byte{0, 0xf0, 0xff}},
			pci.DVSEC{Vendor: 0x1e98, Revision: 1, ID: 8, Data: []byte{1, 0, 2, 0, 3}, Write: []byte{0, 0, 0xff}},
			pci.DVSEC{Vendor: 0x1234, ID: 1},
		},
	}
}

// Where everything has its capabilities.
const (
	powerAt   = 0x40
	msiAt     = 0x48
	msixAt    = 0x60
	expressAt = 0x6c
	vendorAt  = 0xa8
	dvsecAt   = 0x100
)

func space(t testing.TB, cfg *pci.Config) *pci.Space {
	t.Helper()
	s, err := pci.New(cfg)
	require.NoError(t, err)
	return s
}

// get and put are accesses of 1, 2, 4 or 8 bytes.
func get(t testing.TB, s *pci.Space, off uint64, width int) uint64 {
	t.Helper()
	var p [8]byte
	require.NoError(t, s.Read(off, p[:width]))
	return binary.LittleEndian.Uint64(p[:])
}

func put(t testing.TB, s *pci.Space, off uint64, width int, value uint64) {
	t.Helper()
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], value)
	require.NoError(t, s.Write(off, p[:width]))
}

// whole is the contents of the space.
func whole(t testing.TB, s *pci.Space) []byte {
	t.Helper()
	p := make([]byte, s.Size())
	require.NoError(t, s.Read(0, p))
	return p
}

func TestDocumentedTable(t *testing.T) {
	regtest.Documented(t, "doc.go", space(t, everything()).Registers())
}
