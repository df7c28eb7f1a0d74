package pci

import (
	"fmt"
	"slices"
	"sync"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/reg"
)

// Space is the configuration space of a function. Its methods may be called
// from any goroutine; accesses that overlap in time are as if one came after
// the other, but the hooks of one may then run after those of the other.
type Space struct {
	cfg    Config
	places []Place
	msi    *MSI
	power  *Power

	// Where the capabilities are that mean something to the space; 0 for
	// those that are not there.
	msiAt, msixAt, powerAt, expressAt uint32

	mu   sync.Mutex
	bank *reg.Bank // guarded by mu
	flrs uint32    // resets by the driver; guarded by mu
}

// New returns the space of a function that was just powered on. It fails with
// errs.ErrInvalid, ErrExists or ErrNoSpace, naming what cannot be.
func New(cfg *Config) (*Space, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Space{cfg: *cfg}
	s.cfg.Capabilities = slices.Clone(cfg.Capabilities)
	regs, places, size, err := s.cfg.lay()
	if err != nil {
		return nil, err
	}
	if s.bank, err = reg.New(size, regs, s.written); err != nil {
		return nil, err
	}
	s.places = places
	s.msiAt, s.msixAt, s.powerAt, s.expressAt = s.Find(IDMSI), s.Find(IDMSIX), s.Find(IDPower), s.Find(IDExpress)
	for _, x := range s.cfg.Capabilities {
		switch x := x.(type) { // a pointer has the methods as well
		case MSI:
			s.msi = &x
		case *MSI:
			s.msi = new(*x)
		case Power:
			s.power = &x
		case *Power:
			s.power = new(*x)
		}
	}
	return s, nil
}

// Size is the size of the space in bytes: 256 or 4096.
func (s *Space) Size() uint64 { return s.bank.Size() }

// Registers is the table of the space's registers, ascending. It must not be
// changed.
func (s *Space) Registers() []reg.Reg { return s.bank.Registers() }

// Capabilities says where the capabilities stand, in the order of their chains.
func (s *Space) Capabilities() []Place { return slices.Clone(s.places) }

// Find is where the first capability of that kind stands, 0 if there is none.
func (s *Space) Find(id CapabilityID) uint32 {
	for _, p := range s.places {
		if p.ID == id {
			return p.Offset
		}
	}
	return 0
}

// Read is a read of len(p) bytes at off, of any length and alignment. It
// fails only with errs.ErrInvalid, where they leave the space.
func (s *Space) Read(off uint64, p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bank.Read(off, p)
}

// Write is a write of p at off, of any length and alignment. One that spans
// registers is one write to each, in ascending order. It fails only with
// errs.ErrInvalid, where the bytes leave the space; then nothing was written.
func (s *Space) Write(off uint64, p []byte) error {
	return s.change(func() error { return s.bank.Write(off, p) })
}

// Reset is a conventional reset, as by VFIO_DEVICE_RESET: what is sticky stays.
func (s *Space) Reset() {
	_ = s.change(func() error { s.bank.Reset(reg.Conventional); return nil })
}

// PowerOn makes the function one that was just powered on: nothing stays.
func (s *Space) PowerOn() {
	_ = s.change(func() error { s.bank.Reset(reg.PowerOn); return nil })
}

// state is what hooks tell of.
type state struct {
	flrs         uint32
	command      Command
	power        PowerState
	msi          MSIState
	msix, masked bool
}

func (st *state) master() bool { return st.command&CommandMaster != 0 && st.power == D0 }

// change does f, which may change the registers, and then calls the hooks.
func (s *Space) change(f func() error) error {
	s.mu.Lock()
	old := s.state()
	err := f()
	now := s.state()
	s.mu.Unlock()
	if old != now {
		s.cfg.tell(&old, &now)
	}
	return err
}

// tell calls the hooks of what is different.
func (c *Config) tell(old, now *state) {
	if old.flrs != now.flrs && c.OnFLR != nil {
		c.OnFLR()
	}
	if old.command != now.command && c.OnCommand != nil {
		c.OnCommand(old.command, now.command)
	}
	if old.power != now.power && c.OnPower != nil {
		c.OnPower(old.power, now.power)
	}
	if old.master() != now.master() && c.OnMaster != nil {
		c.OnMaster(now.master())
	}
	if old.msi != now.msi && c.OnMSI != nil {
		c.OnMSI(now.msi)
	}
	if (old.msix != now.msix || old.masked != now.masked) && c.OnMSIX != nil {
		c.OnMSIX(now.msix, now.masked)
	}
}

// written is told of each register that software wrote. The caller holds mu.
func (s *Space) written(w reg.Write) {
	switch at := w.Reg.Offset; {
	case s.expressAt != 0 && at == s.expressAt+ExpressDeviceControl:
		if w.Order()&DeviceControlFLR != 0 {
			s.flr()
		}
	case s.powerAt != 0 && at == s.powerAt+PowerControl:
		old, now := PowerState(w.Old&PowerStateBits), PowerState(w.New&PowerStateBits)
		switch {
		case !s.power.has(now): // completes normally, and changes nothing
			s.bank.Put(at, w.Old)
		case old == D3hot && now == D0 && s.power.SoftReset:
			s.flr()
		}
	}
}

// flr resets the function as its driver asked. The caller holds mu.
func (s *Space) flr() {
	s.bank.Reset(reg.Function)
	s.flrs++
}

// state collects what the hooks tell. The caller holds mu.
func (s *Space) state() state {
	st := state{flrs: s.flrs, command: Command(s.bank.Get(RegCommand)), power: s.powerState(), msi: s.msiState()}
	if s.msixAt != 0 {
		control := s.bank.Get(s.msixAt + MSIXControl)
		st.msix, st.masked = control&MSIXEnable != 0, control&MSIXFunctionMask != 0
	}
	return st
}

func (s *Space) powerState() PowerState {
	if s.powerAt == 0 {
		return D0
	}
	return PowerState(s.bank.Get(s.powerAt+PowerControl) & PowerStateBits)
}

func (s *Space) msiState() MSIState {
	if s.msi == nil {
		return MSIState{}
	}
	get := func(at uint32) uint64 { return s.bank.Get(s.msiAt + at) }
	control := get(MSIControl)
	// More vectors than there are, software must not enable.
	st := MSIState{
		Enabled: control&MSIEnable != 0,
		Vectors: min(1<<(control>>msiEnabled&7), s.msi.Vectors),
		Addr:    get(MSIAddress),
		Data:    uint16(get(s.msi.offset(MSIData32))),
	}
	if s.msi.Is64 {
		st.Addr |= get(MSIAddressHi) << 32
	}
	if s.msi.Mask {
		st.Mask = uint32(get(s.msi.offset(MSIMask32)))
	}
	return st
}

// Command is the command register.
func (s *Space) Command() Command {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Command(s.bank.Get(RegCommand))
}

// Power is the power state.
func (s *Space) Power() PowerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.powerState()
}

// Master reports whether the function may reach memory: bus mastering is on and
// the function awake.
func (s *Space) Master() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state()
	return st.master()
}

// MSI is how software has set up MSI.
func (s *Space) MSI() MSIState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.msiState()
}

// MSIX is how software has set up MSI-X.
func (s *Space) MSIX() (enabled, masked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state()
	return st.msix, st.masked
}

// BAR is the address that base address register i holds, and whether the
// function answers there: the register asks for something, its space is enabled
// and the function awake.
func (s *Space) BAR(i int) (at uint64, on bool) {
	if i < 0 || i >= len(s.cfg.BARs) || s.cfg.BARs[i].Size == 0 {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, r := s.cfg.BARs[i], uint32(RegBAR0+4*i)
	at = s.bank.Get(r) &^ barMemTypeBits
	enable := CommandMemory
	if b.IO {
		at = s.bank.Get(r) &^ barIOTypeBits
		enable = CommandIO
	}
	if b.Is64 {
		at |= s.bank.Get(r+4) << 32
	}
	return at, Command(s.bank.Get(RegCommand))&enable != 0 && s.powerState() == D0
}

// Set sets bits of a register as the device does: of those that only the device
// changes and those that software clears by writing 1. off is where the
// register begins.
func (s *Space) Set(off uint32, bits uint64) error { return s.update(off, 0, bits) }

// Clear clears bits, as Set sets them.
func (s *Space) Clear(off uint32, bits uint64) error { return s.update(off, bits, 0) }

func (s *Space) update(off uint32, clear, set uint64) error {
	regs := s.bank.Registers()
	i, found := slices.BinarySearchFunc(regs, off, func(r reg.Reg, off uint32) int { return int(r.Offset) - int(off) })
	if !found || (set|clear)&^(regs[i].Live|regs[i].W1C) != 0 {
		return fmt.Errorf("register at %#x, bits %#x: %w", off, set|clear, errs.ErrInvalid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bank.Put(off, s.bank.Get(off)&^clear|set)
	return nil
}

// Pending says whether requests of the function are under way (Transactions
// Pending), which drivers wait for before they reset it. Without a PCIe
// capability there is nobody to tell.
func (s *Space) Pending(some bool) {
	if s.expressAt == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.expressAt + ExpressDeviceStatus
	v := s.bank.Get(at) &^ DeviceStatusPending
	if some {
		v |= DeviceStatusPending
	}
	s.bank.Put(at, v)
}

// Append appends what the registers hold to p, as Load takes it.
func (s *Space) Append(p []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bank.Append(p)
}

// Load gives the registers what Append said. Read-only bits stay as they are,
// whatever p says; a power state that the function does not have becomes D0.
// It fails with errs.ErrInvalid where p is not of as many registers.
func (s *Space) Load(p []byte) error {
	return s.change(func() error {
		err := s.bank.Load(p)
		if s.powerAt != 0 && !s.power.has(s.powerState()) {
			s.bank.Put(s.powerAt+PowerControl, 0)
		}
		return err
	})
}
