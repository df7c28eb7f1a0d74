package guard

import (
	"unsafe"

	"github.com/softmdev/softmdev/translate/addr"
)

// view is the n bytes at a, which may lie anywhere in the process. It panics
// with a runtime.Error for address 0 and past the last address: call it under
// the guard.
func view(a addr.HVA, n int) []byte {
	p := uintptr(a)
	// Through a pointer to the number: there is no Go pointer to derive this
	// one from.
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), n)
}
