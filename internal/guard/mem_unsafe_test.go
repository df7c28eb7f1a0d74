package guard

import (
	"unsafe"

	"github.com/softmdev/softmdev/translate/addr"
)

func addressOf(b []byte) addr.HVA { return addr.HVA(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
