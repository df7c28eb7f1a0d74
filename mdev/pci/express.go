package pci

import (
	"fmt"
	"math/bits"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/reg"
)

// Express is the PCI Express capability, version 2, of an endpoint on a link of
// one lane and 2.5 GT/s, or of one that is integrated into the root complex and
// has no link.
// Specification: PCI Express Base 4.0, 7.5.3; 6.6.2 for function-level reset.
type Express struct {
	Integrated bool // a root-complex integrated endpoint
	FLR        bool // function-level reset
	MaxPayload int  // bytes, a power of two from 128 to 4096; 0 means 128
}

// Offsets in the PCI Express capability.
const (
	ExpressCaps          = 0x02
	ExpressDeviceCaps    = 0x04
	ExpressDeviceControl = 0x08
	ExpressDeviceStatus  = 0x0a
	ExpressLinkCaps      = 0x0c
	ExpressLinkControl   = 0x10
	ExpressLinkStatus    = 0x12
	ExpressDeviceCaps2   = 0x24
	ExpressDeviceCtl2    = 0x28
	ExpressLinkCaps2     = 0x2c
	ExpressLinkControl2  = 0x30

	expressSize = 0x3c
)

// Bits of the device control and status registers.
const (
	DeviceControlReports  = 0x000f // correctable, non-fatal, fatal errors; unsupported requests
	DeviceControlRelaxed  = 0x0010 // relaxed ordering
	DeviceControlPayload  = 0x00e0 // largest payload: 128 << value bytes
	DeviceControlNoSnoop  = 0x0800
	DeviceControlReadSize = 0x7000 // largest read request: 128 << value bytes
	DeviceControlFLR      = 0x8000 // initiate function-level reset; reads as 0

	DeviceStatusErrors  = 0x000f // the errors above were detected
	DeviceStatusPending = 0x0020 // requests of the function are not completed yet

	deviceCapsRoleBased = 0x00008000
	deviceCapsFLR       = 0x10000000
	payloadShift        = 5
	readSize512         = 2 << 12

	endpoint           = 0x0
	integratedEndpoint = 0x9

	linkSpeed       = 0x1 // 2.5 GT/s
	linkWidth       = 0x1 << 4
	linkControlBits = 0x00cb // ASPM, read completion boundary, common clock, extended synch
	linkSpeeds      = 0x2    // 2.5 GT/s

	completionTimeoutOff = 0x10
)

func (Express) id() (CapabilityID, bool) { return IDExpress, false }
func (Express) name() string             { return "PCIe" }

func (e Express) registers(*Config) ([]reg.Reg, uint32, error) {
	most := e.MaxPayload
	if most == 0 {
		most = 128
	}
	if bits.OnesCount(uint(most)) != 1 || most < 128 || most > 4096 {
		return nil, 0, fmt.Errorf("payload of %d bytes, want a power of two from 128 to 4096: %w", e.MaxPayload, errs.ErrInvalid)
	}
	payload := uint64(bits.TrailingZeros(uint(most)) - 7)
	kind := uint64(endpoint)
	if e.Integrated {
		kind = integratedEndpoint
	}
	caps := reg.Reg{Offset: ExpressDeviceCaps, Width: 4, Name: "device capabilities", Reset: deviceCapsRoleBased | payload}
	control := reg.Reg{
		Offset: ExpressDeviceControl, Width: 2, Name: "device control",
		Reset: DeviceControlRelaxed | DeviceControlNoSnoop | readSize512,
		Write: DeviceControlReports | DeviceControlRelaxed | DeviceControlNoSnoop | DeviceControlReadSize,
	}
	if payload > 0 { // a function that knows 128 bytes only has the field at 0
		control.Write |= DeviceControlPayload
		control.Keep = DeviceControlPayload
	}
	if e.FLR {
		caps.Reset |= deviceCapsFLR
		control.Order = DeviceControlFLR
	}
	regs := []reg.Reg{
		{Offset: ExpressCaps, Width: 2, Name: "capabilities", Reset: 2 | kind<<4},
		caps,
		control,
		// Requests that are under way when the function is reset still are.
		{Offset: ExpressDeviceStatus, Width: 2, Name: "device status", W1C: DeviceStatusErrors, Live: DeviceStatusPending, Sticky: DeviceStatusPending},
		{Offset: ExpressDeviceCaps2, Width: 4, Name: "device capabilities 2", Reset: completionTimeoutOff},
		{Offset: ExpressDeviceCtl2, Width: 2, Name: "device control 2", Write: completionTimeoutOff},
	}
	if !e.Integrated {
		regs = append(regs,
			reg.Reg{Offset: ExpressLinkCaps, Width: 4, Name: "link capabilities", Reset: linkSpeed | linkWidth},
			reg.Reg{Offset: ExpressLinkControl, Width: 2, Name: "link control", Write: linkControlBits, Keep: linkControlBits},
			reg.Reg{Offset: ExpressLinkStatus, Width: 2, Name: "link status", Reset: linkSpeed | linkWidth},
			reg.Reg{Offset: ExpressLinkCaps2, Width: 4, Name: "link capabilities 2", Reset: linkSpeeds},
			reg.Reg{Offset: ExpressLinkControl2, Width: 2, Name: "link control 2", Reset: linkSpeed, Write: 0xf, Sticky: 0xf},
		)
	}
	return regs, expressSize, nil
}
