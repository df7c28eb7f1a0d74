package intremap

import (
	"fmt"
	"unsafe"

	"github.com/softmdev/softmdev/mdev/errs"
)

// DescriptorAt is the descriptor in the first bytes of mem, which must be
// aligned to DescriptorSize and memory of our own: a file that a peer could
// truncate would take the process with it.
func DescriptorAt(mem []byte) (*Descriptor, error) {
	if len(mem) < DescriptorSize {
		return nil, fmt.Errorf("descriptor in %d bytes: %w", len(mem), errs.ErrInvalid)
	}
	p := unsafe.Pointer(&mem[0])
	if uintptr(p)%DescriptorSize != 0 {
		return nil, fmt.Errorf("descriptor at %#x: %w", uintptr(p), errs.ErrMisaligned)
	}
	return (*Descriptor)(p), nil
}
