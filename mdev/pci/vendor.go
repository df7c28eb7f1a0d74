package pci

import (
	"encoding/binary"
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/reg"
)

// Vendor is a vendor-specific capability: a length, and what the vendor likes.
// Specification: PCI Local Bus 3.0, appendix H.
type Vendor struct {
	// Data is what stands behind the length byte, after a reset.
	Data []byte
	// Write has the bits of Data that software may change; it may be shorter
	// than Data.
	Write []byte
}

func (Vendor) id() (CapabilityID, bool) { return IDVendor, true }
func (Vendor) name() string             { return "VNDR" }

func (v Vendor) registers(*Config) ([]reg.Reg, uint32, error) {
	const head = 3 // ID, next, length
	size := head + len(v.Data)
	if size > 0xff {
		return nil, 0, fmt.Errorf("%d bytes: %w", len(v.Data), errs.ErrNoSpace)
	}
	regs, err := contents(head, v.Data, v.Write)
	return append([]reg.Reg{{Offset: 2, Width: 1, Name: "length", Reset: uint64(size)}}, regs...), uint32(size), err
}

// DVSEC is a designated vendor-specific extended capability: vendor, revision,
// identifier, and what the vendor likes.
// Specification: PCI Express Base 4.0, 7.9.6.
//
//	header 1  bits 0-15 vendor, 16-19 revision, 20-31 length
//	header 2  bits 0-15 identifier
type DVSEC struct {
	Vendor   uint16
	Revision uint8 // 4 bits
	ID       uint16
	// Data is what stands behind the headers, from offset 0xa on, after a
	// reset; Write has the bits that software may change.
	Data, Write []byte
}

func (DVSEC) id() (CapabilityID, bool) { return IDDVSEC, true }
func (DVSEC) name() string             { return "DVSEC" }

func (v DVSEC) registers(*Config) ([]reg.Reg, uint32, error) {
	const head = 0xa
	size := head + len(v.Data)
	switch {
	case size > 0xfff:
		return nil, 0, fmt.Errorf("%d bytes: %w", len(v.Data), errs.ErrNoSpace)
	case v.Revision > 0xf:
		return nil, 0, fmt.Errorf("revision %d of more than 4 bits: %w", v.Revision, errs.ErrInvalid)
	}
	regs, err := contents(head, v.Data, v.Write)
	return append([]reg.Reg{
		{Offset: 4, Width: 4, Name: "header 1", Reset: uint64(v.Vendor) | uint64(v.Revision)<<16 | uint64(size)<<20},
		{Offset: 8, Width: 2, Name: "header 2", Reset: uint64(v.ID)},
	}, regs...), uint32(size), err
}

// contents makes registers of bytes that begin at offset at of a capability:
// words of 32 bits, and what is left at the edges byte by byte.
func contents(at int, data, write []byte) ([]reg.Reg, error) {
	if len(write) > len(data) {
		return nil, fmt.Errorf("%d bytes may be written, there are %d: %w", len(write), len(data), errs.ErrInvalid)
	}
	mask := make([]byte, len(data))
	copy(mask, write)
	var regs []reg.Reg
	for i := 0; i < len(data); {
		r := reg.Reg{Offset: uint32(at + i), Width: 1, Name: fmt.Sprintf("data %d", i), Reset: uint64(data[i]), Write: uint64(mask[i])}
		if r.Offset%4 == 0 && len(data)-i >= 4 {
			r.Width = 4
			r.Reset = uint64(binary.LittleEndian.Uint32(data[i:]))
			r.Write = uint64(binary.LittleEndian.Uint32(mask[i:]))
		}
		regs = append(regs, r)
		i += int(r.Width)
	}
	return regs, nil
}
