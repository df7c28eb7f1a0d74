//go:build !(linux && amd64) || race

package translate

import "sync/atomic"

// fastSections: see section_fast.go. Here every section uses atomic stores,
// which on most architectures of this kind cost little.
const fastSections = false

func registerBarrier() bool { return false }

func barrier() {}

// release32 stores v where readers see it, after all stores before it.
func release32(p *uint32, v uint32) { atomic.StoreUint32(p, v) }

// release64 is release32 of 64 bits.
func release64(p *uint64, v uint64) { atomic.StoreUint64(p, v) }
