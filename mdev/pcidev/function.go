package pcidev

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/pci"
)

// Memory is what answers in a BAR. Offsets are the BAR's, and lie in it. If it
// has a method File, as [ram.Memory], and that returns a file, then a VMM may
// map the BAR; byte x of the BAR is byte x of the file.
//
// [ram.Memory]: https://pkg.go.dev/github.com/softmdev/softmdev/mdev/ram#Memory
type Memory interface {
	io.ReaderAt
	io.WriterAt
}

// Config says what a function is made of.
type Config struct {
	// PCI is the configuration space, with no ROM.
	PCI pci.Config
	// BARs are what is behind the BARs. One that has none, but for the MSI-X
	// table, reads as 0.
	BARs [6]Memory
	// Names are what the BARs are called, for people; "" has a default.
	Names [6]string
	// Reset and Migration are those of mdev.Info.
	Reset     bool
	Migration mdev.MigrationFlags
}

// Function is a PCI function.
type Function struct {
	// Space is the configuration space.
	Space *pci.Space

	info  mdev.Info
	table *pci.MSIXTable // nil without MSI-X
	bars  [6]Memory
	irqs  *mdev.IRQs // nil while it is not attached
}

// New puts a function together. It fails as [pci.New] does, and with
// errs.ErrNotSupported for a ROM.
func New(cfg *Config) (f *Function, err error) {
	if cfg.PCI.ROM != 0 {
		return nil, fmt.Errorf("expansion ROM: %w", errs.ErrNotSupported)
	}
	f = &Function{bars: cfg.BARs}
	config := cfg.PCI
	config.OnFLR = func() {
		f.resetTable()
		if cfg.PCI.OnFLR != nil {
			cfg.PCI.OnFLR()
		}
	}
	if f.Space, err = pci.New(&config); err != nil {
		return nil, err
	}
	f.info = mdev.Info{
		API: mdev.APIPCI, Reset: cfg.Reset, Migration: cfg.Migration,
		Regions: make([]mdev.RegionInfo, mdev.NumPCIRegions),
		IRQs:    make([]mdev.IRQInfo, mdev.NumPCIIRQs),
	}
	const access = mdev.RegionRead | mdev.RegionWrite
	for i, bar := range cfg.PCI.BARs {
		if bar.Size == 0 {
			continue
		}
		r := mdev.RegionInfo{Name: cfg.Names[i], Size: bar.Size, Flags: access}
		if r.Name == "" {
			r.Name = fmt.Sprintf("BAR %d", i)
		}
		if m, ok := cfg.BARs[i].(interface{ File() *os.File }); ok && m.File() != nil {
			r.Flags |= mdev.RegionMmap
			r.Memory = m.File()
		}
		f.info.Regions[i] = r
	}
	f.info.Regions[mdev.Config] = mdev.RegionInfo{Name: "configuration space", Size: f.Space.Size(), Flags: access}
	if err := f.interrupts(&config); err != nil {
		return nil, err
	}
	return f, nil
}

// interrupts lists what the function can raise.
func (f *Function) interrupts(cfg *pci.Config) error {
	irqs := f.info.IRQs
	if cfg.InterruptPin != 0 {
		irqs[mdev.IRQINTx] = mdev.IRQInfo{Name: "INTx", Count: 1, Flags: mdev.IRQEventFD | mdev.IRQMaskable | mdev.IRQAutoMasked}
	}
	// Every function can tell of an error, and ask to be let go.
	irqs[mdev.IRQERR] = mdev.IRQInfo{Name: "ERR", Count: 1, Flags: mdev.IRQEventFD}
	irqs[mdev.IRQREQ] = mdev.IRQInfo{Name: "REQ", Count: 1, Flags: mdev.IRQEventFD}
	space := make([]byte, f.Space.Size())
	if err := f.Space.Read(0, space); err != nil {
		return err
	}
	if at := f.Space.Find(pci.IDMSI); at != 0 {
		wanted := space[at+pci.MSIControl] >> 1 & 7
		irqs[mdev.IRQMSI] = mdev.IRQInfo{Name: "MSI", Count: 1 << wanted, Flags: mdev.IRQEventFD}
	}
	if f.Space.Find(pci.IDMSIX) == 0 {
		return nil
	}
	m, _, err := pci.FindMSIX(space)
	if err != nil {
		return err
	}
	irqs[mdev.IRQMSIX] = mdev.IRQInfo{Name: "MSI-X", Count: uint32(m.Vectors), Flags: mdev.IRQEventFD}
	f.table, err = pci.NewMSIXTable(m, nil)
	return err
}

// Info implements mdev.Device.
func (f *Function) Info() *mdev.Info { return &f.info }

// Attach gives the function to who opens its device, as if it was just powered
// on. It must not be called while accesses are under way.
func (f *Function) Attach(irqs *mdev.IRQs) {
	f.irqs = irqs
	f.Space.PowerOn()
	f.resetTable()
}

// Reset resets configuration space and MSI-X table, as a conventional reset
// does. (A reset by the driver has reset both when pci.Config.OnFLR is called.)
func (f *Function) Reset() {
	f.Space.Reset()
	f.resetTable()
}

func (f *Function) resetTable() {
	if f.table != nil {
		f.table.Reset()
	}
}

// Raise raises an interrupt: by MSI where the guest has switched that on or the
// function has nothing else, by MSI-X otherwise. Of MSI a guest may enable fewer
// vectors than there are; the low bits of vector choose among those. Raise may be
// called by any goroutine between Attach and the end of the device's Close.
func (f *Function) Raise(vector int) {
	switch msi := f.Space.MSI(); {
	case f.table != nil && !msi.Enabled:
		f.irqs.Trigger(mdev.IRQMSIX, vector)
	case msi.Vectors > 0:
		f.irqs.Trigger(mdev.IRQMSI, vector&(msi.Vectors-1))
	}
}

// Read implements mdev.Device.
func (f *Function) Read(_ context.Context, region int, off uint64, p []byte) error {
	switch {
	case region == mdev.Config:
		return f.Space.Read(off, p)
	case uint(region) >= uint(len(f.bars)):
		return fmt.Errorf("region %d: %w", region, errs.ErrInvalid)
	case f.overlaid(region, off, len(p)):
		clear(p)
		f.table.Read(region, off, p)
		f.pending(region, off, p)
		return nil
	case f.bars[region] == nil:
		clear(p)
		return nil
	}
	_, err := f.bars[region].ReadAt(p, int64(off))
	return err
}

// Write implements mdev.Device.
func (f *Function) Write(_ context.Context, region int, off uint64, p []byte) error {
	switch {
	case region == mdev.Config:
		return f.Space.Write(off, p)
	case uint(region) >= uint(len(f.bars)):
		return fmt.Errorf("region %d: %w", region, errs.ErrInvalid)
	case f.overlaid(region, off, len(p)):
		f.table.Write(region, off, p)
		return nil
	case f.bars[region] == nil:
		return nil
	}
	_, err := f.bars[region].WriteAt(p, int64(off))
	return err
}

// overlaid reports whether an access touches the MSI-X table or pending bits.
func (f *Function) overlaid(bar int, off uint64, n int) bool {
	return f.table != nil && f.table.Overlaps(bar, off, n)
}

// pending puts the session's pending bits into what was read of the table's.
func (f *Function) pending(bar int, off uint64, p []byte) {
	m := f.table.Place()
	if bar != m.PBABAR || f.irqs == nil {
		return
	}
	for i := range p {
		at := off + uint64(i) - uint64(m.PBAOffset)
		if at >= m.PBASize() {
			continue
		}
		for v := int(8 * at); v < min(int(8*at)+8, m.Vectors); v++ {
			if f.irqs.Pending(mdev.IRQMSIX, v) {
				p[i] |= 1 << (v % 8)
			}
		}
	}
}

// AppendState appends the state of configuration space and MSI-X table to p, as
// LoadState takes it.
func (f *Function) AppendState(p []byte) []byte {
	p = f.Space.Append(p)
	if f.table != nil {
		p = f.table.Append(p)
	}
	return p
}

// LoadState gives configuration space and MSI-X table what AppendState said, as
// [pci.Space.Load] and [pci.MSIXTable.Load] do. It fails with errs.ErrInvalid
// where p is not of the same function.
func (f *Function) LoadState(p []byte) error {
	space := 8 * len(f.Space.Registers())
	if len(p) < space || f.table == nil && len(p) > space {
		return fmt.Errorf("state of %d bytes: %w", len(p), errs.ErrInvalid)
	}
	if f.table != nil {
		if err := f.table.Load(p[space:]); err != nil {
			return err
		}
	}
	return f.Space.Load(p[:space])
}
