package translate

import (
	"unsafe"

	"github.com/softmdev/softmdev/translate/addr"
)

// pageOf is the first page boundary in b.
func pageOf(b []byte) addr.HVA { return addr.PageOf(hvaOf(b) + addr.HVA(addr.PageSize-1)) }

func vecPointer(v *[1]byte) unsafe.Pointer { return unsafe.Pointer(v) }
