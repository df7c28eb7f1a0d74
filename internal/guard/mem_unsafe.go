package guard

import (
	"unsafe"

	"github.com/softmdev/softmdev/translate/addr"
)

// minPointer is the lowest address that the Go runtime lets a pointer have
// (runtime.minLegalPointer): it ends the process when it meets a lower one on
// a stack. No system maps anything there.
const minPointer = 4096

// view is the n bytes at a, which may lie anywhere in the process. ok is false
// where no memory can be: the first page, and what would pass the last
// address.
func view(a addr.HVA, n int) (b []byte, ok bool) {
	last := uint64(a) + uint64(n) - 1
	if n == 0 {
		return nil, true
	}
	if a < minPointer || last < uint64(a) || last > uint64(^uintptr(0)) {
		return nil, false
	}
	// A slice made by hand: there is no Go pointer to derive this one from,
	// and unsafe.Slice ends the process on an address that it does not like
	// (checkptr).
	h := struct {
		p        uintptr
		len, cap int
	}{uintptr(a), n, n}
	return *(*[]byte)(unsafe.Pointer(&h)), true
}
