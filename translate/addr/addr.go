package addr

import "fmt"

// GPA is a guest-physical address.
type GPA uint64

// IOVA is an I/O virtual address: what a device program contains. Without a
// vIOMMU it equals the guest-physical address; see [IdentityIOVA].
type IOVA uint64

// HVA is a host-virtual address: a number, not a pointer. Only the files named
// mem_unsafe.go make a pointer of it.
type HVA uint64

// HPA is a host-physical address, the only kind that emulated hardware can
// name. It may be synthetic (package iommu allots it) or a real page frame.
type HPA uint64

// Len counts bytes.
type Len uint64

// Space is any one of the four address spaces.
type Space interface{ GPA | IOVA | HVA | HPA }

// PageShift and PageSize describe the page by which this project pins and
// polices memory: 4 KiB, the smallest page of every interface it mirrors.
const (
	PageShift     = 12
	PageSize  Len = 1 << PageShift
	PageMask      = uint64(PageSize - 1)
)

// IdentityIOVA converts a guest-physical address to the IOVA of a device that
// stands behind no vIOMMU. It is the only place that assumes there is none.
func IdentityIOVA(a GPA) IOVA { return IOVA(a) }

// Add returns a+n and whether the sum stayed below 2^64.
func Add[A Space](a A, n Len) (A, bool) {
	sum := uint64(a) + uint64(n)
	return A(sum), sum >= uint64(a)
}

// PageOf rounds a down to the start of its page.
func PageOf[A Space](a A) A { return A(uint64(a) &^ PageMask) }

// PageOffset is the offset of a in its page.
func PageOffset[A Space](a A) Len { return Len(uint64(a) & PageMask) }

// Aligned reports whether a is a multiple of n. n must be a power of two.
func Aligned[A Space](a A, n Len) bool { return uint64(a)&uint64(n-1) == 0 }

// String prints an address as %#x, so that every error and
// log line writes addresses alike.
func (a GPA) String() string  { return hex(uint64(a)) }
func (a IOVA) String() string { return hex(uint64(a)) }
func (a HVA) String() string  { return hex(uint64(a)) }
func (a HPA) String() string  { return hex(uint64(a)) }
func (n Len) String() string  { return hex(uint64(n)) }

func hex(v uint64) string { return fmt.Sprintf("%#x", v) }
