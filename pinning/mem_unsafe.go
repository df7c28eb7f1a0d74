package pinning

import (
	"unsafe"

	"github.com/softmdev/softmdev/internal/guard"
	"github.com/softmdev/softmdev/translate/addr"
)

// memory is the n bytes at hva. They need not exist: it is for system calls
// and guarded copies only.
func memory(hva addr.HVA, n int) []byte {
	u := uintptr(hva) // by way of memory: see iommu's function of this kind
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&u)), n)
}

// touch reads a byte at hva, and fails if it is not there.
func touch(hva addr.HVA) error {
	var b [1]byte
	return guard.Copy(b[:], memory(hva, 1))
}
