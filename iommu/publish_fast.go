//go:build amd64 && !race

package iommu

import (
	"sync/atomic"
	"unsafe"
)

// release stores v so that what was stored before is seen by who sees v. That
// is any store on amd64; the atomic one of Go is a full barrier besides, which
// costs 5 ns of a 50 ns pin. Who needs the barrier (see gate) has one anyway,
// for all its revokes together.
func release(p *atomic.Uint64, v uint64) { *(*uint64)(unsafe.Pointer(p)) = v }
