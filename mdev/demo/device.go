package demo

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo/engine"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/pci"
	"github.com/softmdev/softmdev/mdev/pcidev"
	"github.com/softmdev/softmdev/mdev/ram"
	"github.com/softmdev/softmdev/mdev/reg"
	"github.com/softmdev/softmdev/mdev/runner"
	"github.com/softmdev/softmdev/translate/addr"
)

// Config says what a device is like. A nil *Config is the zero Config.
type Config struct {
	// Mmap has BAR 2 be memory that a VMM may map, in place of memory that
	// traps. Linux only.
	Mmap bool
	// MSI has it interrupt by MSI in place of MSI-X.
	MSI bool
}

// Set sets an attribute: mmap to on or off, interrupts to msix or msi.
func (c *Config) Set(name, value string) error {
	switch name + "=" + value {
	case "mmap=on", "mmap=off":
		c.Mmap = value == "on"
	case "interrupts=msi", "interrupts=msix":
		c.MSI = value == "msi"
	default:
		return fmt.Errorf("attribute %s=%q, want mmap=on or off, interrupts=msix or msi: %w", name, value, errs.ErrInvalid)
	}
	return nil
}

// Device is a demo device. It is driven through an mdev.Session.
type Device struct {
	*pcidev.Function        // Info, Read, Write
	*runner.Runner[command] // Close, Quiesce, Unquiesce; made by Open

	memory  *ram.Memory
	at      *mdev.Attachment
	program *iommu.Frames // the host program
	engine  *engine.Engine

	mu     sync.Mutex
	bar0   *reg.Bank                // guarded by mu
	ring   uint32                   // vectors of commands that have ended since the last interrupt; guarded by mu
	ended  uint64                   // commands; guarded by mu
	failed map[syscall.Errno]uint64 // and those that failed, by reason; guarded by mu
}

// New returns a device; Destroy frees it.
func New(cfg *Config) (d *Device, err error) {
	cfg = cmp.Or(cfg, &Config{})
	var interrupts pci.Capability = pci.MSIX{Vectors: Vectors, TableBAR: 1, PBABAR: 1, PBAOffset: PBAOffset}
	if cfg.MSI {
		interrupts = pci.MSI{Vectors: Vectors, Is64: true}
	}
	d = &Device{failed: make(map[syscall.Errno]uint64)}
	d.bar0 = reg.MustNew(BAR0Size, registers, d.written)
	if d.memory, err = ram.New(BAR2Size, cfg.Mmap); err != nil {
		return nil, err
	}
	d.Function, err = pcidev.New(&pcidev.Config{
		PCI: pci.Config{
			Vendor: 0x6d64, Device: 0x0001, SubVendor: 0x6d64, SubDevice: 0x0001, Class: 0xff0000, Revision: VersionValue,
			BARs: [6]pci.BAR{{Size: BAR0Size}, {Size: BAR1Size}, {Size: BAR2Size, Is64: true, Prefetch: true}},
			Capabilities: []pci.Capability{
				pci.Power{}, pci.Express{FLR: true}, interrupts, pci.Vendor{Data: []byte("softmdev demo")},
			},
			OnFLR:    d.restart,
			OnMaster: d.master,
		},
		BARs:  [6]pcidev.Memory{0: reg.Locked{Lock: &d.mu, Bank: d.bar0}, 2: d.memory},
		Names: [6]string{"registers", "MSI-X", "memory"},
		Reset: true, Migration: mdev.MigrationStopCopy | mdev.MigrationP2P | mdev.MigrationPreCopy,
	})
	return d, err
}

// Destroy frees a device, which is closed.
func (d *Device) Destroy() { d.memory.Close() }

// Open implements mdev.Device.
func (d *Device) Open(_ context.Context, at *mdev.Attachment) (err error) {
	if err := d.memory.Renew(); err != nil {
		return err
	}
	d.at = at
	d.Runner = runner.New(at, runner.Config[command]{
		Lock: &d.mu, Depth: MaxQueue, Limits: limits,
		Run: d.execute, Done: d.complete, Tell: d.interrupt, Active: d.Space.Pending,
	})
	if d.program, err = d.Alloc(addr.Len(engine.MaxProgram), addr.Read); err != nil {
		d.Close()
		return err
	}
	d.engine = engine.New(d.Domain())
	d.Attach(at.IRQs)
	d.restart()
	return nil
}

// Reset implements mdev.Device. When it returns the device is out of all memory
// that this process has mapped. Of memory that is reached by messages to the
// client, one may be under way; it is not waited for any longer, because the
// client may be unable to serve it before the reset is answered.
func (d *Device) Reset(ctx context.Context, _ mdev.ResetKind) error {
	d.Function.Reset()
	d.restart()
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond) // PCI Express Base 4.0, 6.6.2
	defer cancel()
	_ = d.Idle(ctx)
	return nil
}

// restart brings all but the configuration space to its initial state. It does
// not wait for the command that runs, of which nobody will hear.
func (d *Device) restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Drop()
	d.ring = 0
	d.bar0.Reset(reg.PowerOn)
	if err := d.memory.Wipe(); err != nil { // nothing may be left of what it was used for
		d.at.Log.Error("reset", "device", d.at.Name, "err", err)
	}
}

// master is told that the guest has switched bus mastering on or off.
func (d *Device) master(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !on {
		d.Cancel(errNoMaster)
	}
}
