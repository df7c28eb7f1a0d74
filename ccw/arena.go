package ccw

import (
	"encoding/binary"
	"fmt"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

const (
	// chunkSize is how much host memory is taken at a time. No chain and no
	// list is longer.
	chunkSize = 64 << 10
	// maxArena bounds the host memory of one device: more than the lists of
	// the default budget need.
	maxArena = 4 << 20
)

// arena is the memory of our own in which host programs are written. Hardware
// may read it and not write it. It grows to what the largest program of the
// device needed, and is used again from the start for each program.
type arena struct {
	space  *iommu.Space
	domain *iommu.Domain

	chunks []*iommu.Frames
	cur    int // chunk in use
	used   int // bytes of it

	// fixed, while set, is where alloc takes its bytes from: see only.
	fixed   []byte
	fixedAt uint32
}

// reset gives up all that was allotted.
func (a *arena) reset() { a.cur, a.used = 0, 0 }

// only makes alloc take the bytes at host address at, until it is called with
// nil.
func (a *arena) only(b []byte, at uint32) { a.fixed, a.fixedAt = b, at }

// alloc returns n bytes on a multiple of align (a power of two), and their
// host address, which is below 2 GiB. With within, the bytes do not cross a
// page. What they hold is what an earlier program left.
func (a *arena) alloc(n, align int, within bool) ([]byte, uint32, error) {
	if n > chunkSize {
		return nil, 0, fmt.Errorf("%d bytes of host program: %w", n, errs.ErrBudget)
	}
	if a.fixed != nil {
		if n > len(a.fixed) {
			return nil, 0, fmt.Errorf("%d bytes of list: %w", n, errs.ErrBudget)
		}
		return a.fixed[:n:n], a.fixedAt, nil
	}
	for {
		if a.cur < len(a.chunks) {
			at := (a.used + align - 1) &^ (align - 1)
			if page := int(addr.PageSize); within && at/page != (at+n-1)/page {
				at = (at + page - 1) &^ (page - 1)
			}
			if at+n <= chunkSize {
				a.used = at + n
				c := a.chunks[a.cur]
				return c.Mem[at : at+n : at+n], uint32(c.HPA) + uint32(at), nil
			}
			a.cur, a.used = a.cur+1, 0
			continue
		}
		if len(a.chunks)*chunkSize >= maxArena {
			return nil, 0, fmt.Errorf("host program of more than %d bytes: %w", maxArena, errs.ErrBudget)
		}
		f, err := a.space.Alloc(chunkSize, cio.Limit1)
		if err != nil {
			return nil, 0, fmt.Errorf("host program: %w", err)
		}
		if err := a.domain.GrantFrames(f, addr.Read); err != nil {
			f.Free()
			return nil, 0, fmt.Errorf("host program: %w", err)
		}
		a.chunks = append(a.chunks, f)
	}
}

func (a *arena) free() {
	for _, f := range a.chunks {
		a.domain.RevokeFrames(f)
		f.Free()
	}
	a.chunks = nil
	a.reset()
}

// putCCW writes a format-1 CCW of the host program. Big-endian, as all of a
// channel program.
func putCCW(b []byte, cmd cio.Command, f cio.Flags, count uint16, at uint32) {
	binary.BigEndian.PutUint64(b, uint64(cmd)<<56|uint64(f)<<48|uint64(count)<<32|uint64(at))
}
