package pinning

import (
	"iter"
	"time"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

type Backend uint8

const (
	Emulated Backend = iota
	Locked
)

type Config struct {
	Backend  Backend
	Limit    addr.Len // 0 = RLIMIT_MEMLOCK, ^0 unlimited
	PerOwner addr.Len // 0 = none
	Deadline time.Duration
	Fault    *fault.Points
}

type Pinner struct{}

func New(st *translate.Store, space *iommu.Space, cfg *Config) (*Pinner, error) {
	return &Pinner{}, nil
}
func (p *Pinner) Close() error { return nil }

type Owner struct{}

func (p *Pinner) NewOwner(name string, d *iommu.Domain, cancel func(program uint64, r addr.Range[addr.IOVA])) *Owner {
	return &Owner{}
}
func (o *Owner) Name() string { return "" }

// Close releases every lease of o.
func (o *Owner) Close() {}

// Begin: Lease is a small value (handle + generation), so that a late second
// Release never hits the next program's lease. The zero Lease is released.
func (o *Owner) Begin(program uint64) Lease { return Lease{} }

type Lease struct{}

func (l Lease) Pin(iova addr.IOVA, n addr.Len, access addr.Access) (Pin, error) {
	return Pin{}, errs.ErrNotSupported
}

type Request struct {
	IOVA   addr.IOVA
	Len    addr.Len
	Access addr.Access
}

// PinEach pins reqs in order, all or none, under one lock; pins[i] receives
// the pin of reqs[i]. On error it returns the index of the request at fault.
func (l Lease) PinEach(reqs []Request, pins []Pin) (int, error) { return 0, errs.ErrNotSupported }
func (l Lease) Release()                                        {}

type Pin struct{}

func (p Pin) IOVA() addr.IOVA          { return 0 }
func (p Pin) Len() addr.Len            { return 0 }
func (p Pin) HPA() addr.HPA            { return 0 }
func (p Pin) At(off addr.Len) addr.HPA { return 0 }
func (p Pin) Runs() iter.Seq[Run]      { return nil }

// Run is a stretch of consecutive frames.
type Run struct {
	HPA addr.HPA
	Len addr.Len
}

type Holding struct {
	Owner   string
	Program uint64
	Range   addr.Range[addr.IOVA]
	Access  addr.Access
	HPA     addr.HPA
}

func (p *Pinner) Who(iova addr.IOVA) []Holding     { return nil }
func (p *Pinner) Holdings() []Holding              { return nil } // by owner, program, address
func (p *Pinner) Charged() addr.Len                { return 0 }
func (p *Pinner) Forecast(reqs []Request) addr.Len { return 0 } // what pinning reqs would add to Charged
