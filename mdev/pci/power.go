package pci

import "github.com/softmdev/softmdev/mdev/reg"

// Power is the power management capability, version 3.
// Specification: PCI Bus Power Management Interface 1.2, 3.2.
type Power struct {
	D1, D2 bool // these states are supported
	// SoftReset has the way from D3hot to D0 reset the function.
	SoftReset bool
}

// PowerState is a state of power management. Every function has D0 and D3hot.
type PowerState uint8

// The power states.
const (
	D0 PowerState = iota
	D1
	D2
	D3hot
)

// String names the state.
func (p PowerState) String() string { return [...]string{"D0", "D1", "D2", "D3hot"}[p&3] }

// Offsets in the power management capability, and the bits of its control
// register.
const (
	PowerCaps    = 0x02
	PowerControl = 0x04

	PowerStateBits   = 0x0003
	PowerNoSoftReset = 0x0008

	powerVersion = 3
	powerD1      = 0x0200
	powerD2      = 0x0400
	powerSize    = 8
)

func (Power) id() (CapabilityID, bool) { return IDPower, false }
func (Power) name() string             { return "PM" }

func (p Power) registers(*Config) ([]reg.Reg, uint32, error) {
	caps := reg.Reg{Offset: PowerCaps, Width: 2, Name: "capabilities", Reset: powerVersion}
	if p.D1 {
		caps.Reset |= powerD1
	}
	if p.D2 {
		caps.Reset |= powerD2
	}
	control := reg.Reg{Offset: PowerControl, Width: 2, Name: "control", Write: PowerStateBits}
	if !p.SoftReset {
		control.Reset = PowerNoSoftReset
	}
	return []reg.Reg{caps, control}, powerSize, nil
}

// has reports whether the function has the state.
func (p *Power) has(s PowerState) bool {
	return s == D0 || s == D3hot || s == D1 && p.D1 || s == D2 && p.D2
}
