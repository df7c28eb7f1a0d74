package iommu

import (
	"unsafe"

	"github.com/softmdev/softmdev/internal/guard"
	"github.com/softmdev/softmdev/translate/addr"
)

// hvaOf is the address of b.
func hvaOf(b []byte) addr.HVA { return addr.HVA(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// pageAligned is n zeroed bytes, a multiple of the page size, from a page
// boundary on. Go's heap does not move.
func pageAligned(n int) []byte {
	b := make([]byte, n)
	if hvaOf(b)&addr.HVA(addr.PageMask) == 0 {
		return b
	}
	b = make([]byte, n+int(addr.PageMask))
	skip := -int(hvaOf(b)) & int(addr.PageMask)
	return b[skip : skip+n : skip+n]
}

// at is the n bytes at hva, which the reach that leads there keeps alive. It
// is for memory that cannot vanish: a client may name an address at which
// there never was any, which the language would not take for a pointer.
//
// The number becomes a pointer by way of memory and not by conversion: it was
// not derived from a Go pointer here, and the check of such conversions in
// race builds takes it for arithmetic that left its object.
func at(hva addr.HVA, n int) []byte {
	u := uintptr(hva)
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&u)), n)
}

// copyIn copies from hva to p. It reports false if the memory at hva is gone.
func copyIn(p []byte, hva addr.HVA, guarded bool) bool {
	if guarded {
		return guard.CopyIn(p, hva) == nil
	}
	copy(p, at(hva, len(p)))
	return true
}

// copyOut copies p to hva.
func copyOut(hva addr.HVA, p []byte, guarded bool) bool {
	if guarded {
		return guard.CopyOut(hva, p) == nil
	}
	copy(at(hva, len(p)), p)
	return true
}
