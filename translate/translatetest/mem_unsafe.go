package translatetest

import (
	"unsafe"

	"github.com/softmdev/softmdev/translate/addr"
)

// HVAOf is the address of the first byte of b, which must not be empty. It
// stays true for memory that the garbage collector does not own.
func HVAOf(b []byte) addr.HVA { return addr.HVA(uintptr(unsafe.Pointer(&b[0]))) }
