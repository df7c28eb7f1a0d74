package mdev

import (
	"slices"
	"strings"

	"github.com/softmdev/softmdev/translate/addr"
)

// SessionStats are numbers about a session. Each is right at one moment of the
// call, not all at the same.
type SessionStats struct {
	Name      string
	State     State
	Migration MigState
	Maps      int           // mappings
	Mapped    addr.Len      // their bytes
	Charged   addr.Len      // bytes pinned, each page once
	Leases    []OwnerStats  // by owner, in the order of their names
	IRQs      []IRQStats    // by index; those with vectors
	StrayIRQs uint64        // interrupts raised that the device does not have
	Regions   []RegionStats // by index; those with a size
	Refused   uint64        // accesses to regions that there are not
	Device    []Metric      // what the device reports
	// FDs and Goroutines are what the session holds of the process's, for
	// tests: 0 when it is closed.
	FDs, Goroutines int
}

// OwnerStats are the leases of one owner.
type OwnerStats struct {
	Owner  string
	Leases int
	Bytes  addr.Len // of whole pages; one that two leases hold counts twice
}

// IRQStats are the interrupts of one index.
type IRQStats struct {
	Index   int
	Name    string
	Enabled bool
	Vectors []VectorStats
}

// VectorStats are the interrupts of one vector. What is neither signalled nor
// lost is pending, or went into one that was.
type VectorStats struct {
	Raised    uint64 // by the device, or triggered by the VMM
	Signalled uint64 // reached an eventfd or a function
	Lost      uint64 // the index was disabled, or the eventfd's counter full
	Armed     bool
	Masked    bool
	Pending   bool
}

// RegionStats are the accesses to one region.
type RegionStats struct {
	Index         int
	Name          string
	Reads, Writes uint64 // that were let through to the device
	Errors        uint64 // that failed, or were refused before
}

// Stats collects the numbers. It walks all mappings and leases, so it is for
// people and scrapers; what the device reports comes from the device, whose
// Report may be called at any time while the session is open.
func (s *Session) Stats() SessionStats {
	st := SessionStats{
		Name:       s.name,
		State:      s.State(),
		Migration:  s.MigrationState(),
		Charged:    s.pinner.Charged(),
		Leases:     s.ownerStats(),
		IRQs:       s.irqs.stats(),
		StrayIRQs:  s.irqs.stray.Load(),
		Refused:    s.refused.Load(),
		FDs:        int(s.fds.n.Load()),
		Goroutines: int(s.tasks.n.Load()),
	}
	for m := range s.store.Mappings() {
		st.Maps++
		n, _ := m.Range.Len()
		st.Mapped += n
	}
	for i := range s.regions {
		if r := &s.info.Regions[i]; r.Size != 0 {
			c := &s.regions[i]
			st.Regions = append(st.Regions, RegionStats{i, r.Name, c.reads.Load(), c.writes.Load(), c.errors.Load()})
		}
	}
	if r, ok := s.dev.(Reporter); ok && s.alive("report") == nil {
		st.Device = r.Report()
	}
	return st
}

func (s *Session) ownerStats() []OwnerStats {
	var all []OwnerStats
	for _, l := range s.pinner.Leases() {
		i, ok := slices.BinarySearchFunc(all, l.Owner, func(o OwnerStats, name string) int {
			return strings.Compare(o.Owner, name)
		})
		if !ok {
			all = slices.Insert(all, i, OwnerStats{Owner: l.Owner})
		}
		all[i].Leases++
		for _, h := range l.Holdings {
			n, _ := h.Range.Len()
			all[i].Bytes += n
		}
	}
	return all
}

func (q *IRQs) stats() []IRQStats {
	var all []IRQStats
	for i := range q.index {
		ix := &q.index[i]
		if len(ix.vectors) == 0 {
			continue
		}
		st := IRQStats{Index: i, Name: ix.info.Name, Enabled: ix.enabled.Load() != 0}
		for j := range ix.vectors {
			v := &ix.vectors[j]
			s := v.state.Load()
			st.Vectors = append(st.Vectors, VectorStats{
				Raised: v.raised.Load(), Signalled: v.signalled.Load(), Lost: v.lost.Load(),
				Armed: v.line.Load() != nil, Masked: s&stMasked != 0, Pending: s&(stPending|stLevel) != 0,
			})
		}
		all = append(all, st)
	}
	return all
}
