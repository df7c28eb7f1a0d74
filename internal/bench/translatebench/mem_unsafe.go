package translatebench

import (
	"unsafe"

	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// memoryOf is the whole pages of b, with or without the guard. b must stay
// alive.
func memoryOf(b []byte, guarded bool) translate.Memory {
	if !guarded {
		return translate.Bytes(b)
	}
	return translate.Process(addr.HVA(uintptr(unsafe.Pointer(unsafe.SliceData(b)))))
}
