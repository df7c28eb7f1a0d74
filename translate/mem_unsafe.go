package translate

import (
	"sync/atomic"
	"unsafe"

	"github.com/softmdev/softmdev/translate/addr"
)

// The only file of the package that turns numbers into pointers and goes past
// the bounds checks of the language.

// hvaOf is the address of the first byte of b, which must not be empty.
func hvaOf(b []byte) addr.HVA { return addr.HVA(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// bytesAt is the n bytes at a. The caller is in a section that found them in a
// KindBytes mapping, whose memory the store keeps alive.
func bytesAt(a addr.HVA, n int) []byte {
	p := uintptr(a)
	// Through a pointer to the number: the memory need not belong to the Go
	// heap, so there is no pointer to derive this one from.
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), n)
}

// pointerBits is the width of an address of this process.
const pointerBits = 8 * unsafe.Sizeof(uintptr(0))

// loadSlot is slot i of s, without a bounds check.
func loadSlot(s []uint32, i uint32) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(s)), uintptr(i)*4)))
}

// recordAt is record e of s, without a bounds check.
func recordAt(s []record, e uint32) *record {
	return (*record)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(s)), uintptr(e)*unsafe.Sizeof(record{})))
}
