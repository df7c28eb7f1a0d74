package pinning

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tidwall/btree"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Pinner accounts for the pages of one store that devices hold. Its methods
// may be called from any goroutine.
type Pinner struct {
	store    *translate.Store // immutable, as all down to mu
	space    *iommu.Space
	limit    uint64        // pages
	perOwner uint64        // pages
	deadline time.Duration // 0: that of the context
	trace    bool
	fault    *fault.Points
	locker   *locker // nil: Emulated
	remove   func()  // leaves the store

	mu      sync.Mutex
	reader  *translate.Reader // guarded by mu, as all below
	charged uint64            // pages
	refused []refusal
	drains  []*drain
	windows btree.Map[addr.IOVA, *window] // by first address; disjoint
	books   int                           // size of the windows and their cells, in cells
	sweepAt int                           // of books
	swept   bool                          // windows were dropped whose hardware may be inside still; guarded by mu
	owners  []*Owner
	closed  bool
	plain   bool // neither fault points nor locker nor closed: nothing can fail between check and grant

	tellers sync.WaitGroup // goroutines that tell owners of an unmap

	farMu sync.Mutex
	far   []*translate.Reader // idle readers for remote memory; guarded by farMu
}

// New returns a Pinner for the pages of st, whose frames come from space. It
// joins the store, whose unmaps drain the leases on what they remove, and must
// be closed before the store is.
func New(st *translate.Store, space *iommu.Space, cfg *Config) (*Pinner, error) {
	if cfg == nil {
		cfg = new(Config)
	}
	if st == nil || space == nil {
		return nil, fmt.Errorf("a pinner needs a store and a space: %w", errs.ErrInvalid)
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	p := &Pinner{
		store: st, space: space,
		deadline: cfg.Deadline, trace: cfg.Trace, fault: cfg.Fault,
		perOwner: limitPages(cfg.PerOwner),
	}
	if cfg.PerOwner == 0 {
		p.perOwner = limitPages(Unlimited)
	}
	limit := cfg.Limit
	if limit == 0 {
		var err error
		if limit, err = memlock(); err != nil {
			return nil, fmt.Errorf("RLIMIT_MEMLOCK: %w", err)
		}
	}
	p.limit = limitPages(limit)
	if cfg.Backend == Locked {
		var err error
		if p.locker, err = newLocker(); err != nil {
			return nil, err
		}
	}
	p.plain = p.fault == nil && p.locker == nil
	p.sweepAt = maxBooks
	p.reader = st.NewReader()
	p.remove = st.AddHolder(p)
	return p, nil
}

// Close releases every lease, closes every owner and leaves the store. It
// waits for hardware that is inside a leased frame and for cancel callbacks
// that run. A second Close does nothing.
func (p *Pinner) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.plain = false // every pin is looked at from here on
	// The owners stay listed until each is closed: an unmap meanwhile must
	// find what they hold.
	owners := slices.Clone(p.owners)
	p.mu.Unlock()
	for _, o := range owners {
		o.Close()
	}
	p.remove()
	p.tellers.Wait()

	p.mu.Lock()
	p.dropLocked([]addr.Range[addr.IOVA]{addr.Whole[addr.IOVA]()})
	p.reader.Close()
	p.mu.Unlock()
	p.farMu.Lock()
	for _, r := range p.far {
		r.Close()
	}
	p.far = nil
	p.farMu.Unlock()
	if p.locker != nil {
		return p.locker.close()
	}
	return nil
}

// Charged is the number of bytes charged now: whole pages, each once, however
// many leases hold it.
func (p *Pinner) Charged() addr.Len {
	p.mu.Lock()
	defer p.mu.Unlock()
	return addr.Len(p.charged) << addr.PageShift
}

// Limit is the number of bytes that may be charged at a time.
func (p *Pinner) Limit() addr.Len {
	if p.limit == limitPages(Unlimited) {
		return Unlimited
	}
	return addr.Len(p.limit) << addr.PageShift
}

// chargeLocked charges one owner own pages and the process all pages, or
// nothing.
func (p *Pinner) chargeLocked(o *Owner, own, all uint32) error {
	if err := p.fault.Hit("charge"); err != nil {
		return err
	}
	o.charged += uint64(iommu.Count(own))
	p.charged += uint64(iommu.Count(all))
	if o.charged <= p.perOwner && p.charged <= p.limit {
		return nil
	}
	err := fmt.Errorf("%s holds %#x bytes, all hold %#x of %s: %w", o.name,
		(o.charged-uint64(iommu.Count(own)))<<addr.PageShift,
		(p.charged-uint64(iommu.Count(all)))<<addr.PageShift, p.Limit(), errs.ErrMemlock)
	p.unchargeLocked(o, own, all)
	return err
}

func (p *Pinner) unchargeLocked(o *Owner, own, all uint32) {
	o.charged -= uint64(iommu.Count(own))
	p.charged -= uint64(iommu.Count(all))
}
