package ccwdev

import (
	"sync"

	"github.com/softmdev/softmdev/translate"
)

// far knows whether some memory of a store is reached by messages.
type far struct {
	store *translate.Store

	mu sync.Mutex
	// What the store was at when it was looked at: what is unmapped changes
	// the one, what is mapped the other.
	generation uint64
	avail      uint32
	looked     bool
	some       bool
}

// any reports whether there is such memory now.
func (f *far) any() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	generation, avail := f.store.Generation(), f.store.Info().DMAAvail
	if f.looked && f.generation == generation && f.avail == avail {
		return f.some
	}
	f.generation, f.avail, f.looked, f.some = generation, avail, true, false
	for m := range f.store.Mappings() {
		if m.Kind == translate.KindRemote {
			f.some = true
			break
		}
	}
	return f.some
}
