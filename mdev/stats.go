package mdev

import "github.com/softmdev/softmdev/translate/addr"

// SessionStats are numbers about a session, at one moment each.
type SessionStats struct {
	Name      string
	State     State
	Migration MigState
	Maps      int           // mappings
	Mapped    addr.Len      // their bytes
	Charged   addr.Len      // bytes pinned, each page once
	Leases    []OwnerStats  // by owner, in the order of their names
	IRQs      []IRQStats    // by index; those with vectors
	Regions   []RegionStats // by index; those with a size
	Device    []Metric      // what the device reports
}

// OwnerStats are the leases of one owner.
type OwnerStats struct {
	Owner  string
	Leases int
	Bytes  addr.Len // of whole pages; each holding counts
}

// IRQStats are the interrupts of one index.
type IRQStats struct {
	Index   int
	Name    string
	Vectors []VectorStats
}

// VectorStats are the interrupts of one vector.
type VectorStats struct {
	Raised    uint64 // by the device, or triggered by the VMM
	Signalled uint64 // reached an eventfd or a function
	Lost      uint64 // nobody was there to be signalled, or its eventfd was full
}

// RegionStats are the accesses to one region.
type RegionStats struct {
	Index         int
	Name          string
	Reads, Writes uint64
	Errors        uint64 // accesses that failed, also those that were refused
}
