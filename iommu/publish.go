//go:build !amd64 || race

package iommu

import "sync/atomic"

// release stores v so that what was stored before is seen by who sees v.
func release(p *atomic.Uint64, v uint64) { p.Store(v) }
