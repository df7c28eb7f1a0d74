// Package pci is the configuration space of a PCI function: one table of
// registers ([reg.Reg]: offset, width, reset value, what software may write,
// what it clears by writing 1) that a [Config] makes, with the capabilities MSI,
// MSI-X, PCI Express with function-level reset, power management,
// vendor-specific and DVSEC. And it is an emulation of the MSI-X table,
// [MSIXTable], for who has none.
//
//	space, err := pci.New(&pci.Config{
//		Vendor: 0x1234, Device: 0x5678, Class: 0xff0000,
//		BARs:         [6]pci.BAR{{Size: 4 << 10}},
//		Capabilities: []pci.Capability{pci.Express{FLR: true}, pci.MSIX{Vectors: 4, PBAOffset: 0x800}},
//		OnFLR:        device.reset,
//	})
//
// # Specifications
//
// PCI Local Bus 3.0 (chapter 6: header, MSI, MSI-X), PCI Bus Power Management
// Interface 1.2, PCI Express Base 4.0 (6.6.2: function-level reset; 7.5, 7.9.6:
// registers); names and offsets are those of linux/pci_regs.h, which a test
// compares where the file is there. What QEMU's vfio-user client makes of the
// space: it reads all of it once, sizes no BAR (the region says how large it
// is), checks that MSI-X table and PBA lie in their BARs and apart, emulates the
// table itself, and passes on writes to command, BARs, control registers and
// device control.
//
// # Invariants
//
//   - A read-only bit never changes, whatever is written, saved or loaded; a
//     chain of capabilities always has the same members.
//   - A BAR holds a multiple of its size, and its type bits; all ones written
//     to it read back as the mask of its size.
//   - Initiate Function Level Reset reads as 0. What is to outlive the reset
//     (PCI Express Base 4.0, 6.6.2: payload size, link control, sticky bits)
//     does.
//   - A message of a vector is sent while MSI-X is enabled and neither function
//     nor vector is masked; a trigger at another time while it is enabled is
//     pending, and sent once.
//   - Accesses allocate nothing, but what hooks do.
//
// # Lock order
//
// Space.mu and MSIXTable.mu are leaves; hooks and deliveries run with neither
// held.
//
// # Out of scope
//
// Who answers where in memory: a VMM routes accesses by [Space.BAR] or by what
// it emulates. Type 1 headers, SR-IOV, AER, slot and root registers, PME,
// 64-bit data of MSI. A driver of a conventional function finds PCI Express's
// unused command bits read-only.
//
// # Registers
//
// Of a function with one of each: BARs of 32 and 64 bits, memory and I/O, ROM,
// and all capabilities. See [reg.Table] for the columns.
//
//	offset  width  name                        reset     write     w1c   order  live      kept
//	0x000   2      vendor ID                   1234      -         -     -      -         -
//	0x002   2      device ID                   5678      -         -     -      -         -
//	0x004   2      command                     0000      0547      -     -      -         -
//	0x006   2      status                      0010      -         f900  -      0008      -
//	0x008   1      revision ID                 03        -         -     -      -         -
//	0x009   1      programming interface       02        -         -     -      -         -
//	0x00a   1      subclass                    01        -         -     -      -         -
//	0x00b   1      base class                  ff        -         -     -      -         -
//	0x00c   1      cache line size             00        ff        -     -      -         -
//	0x00d   1      latency timer               00        -         -     -      -         -
//	0x00e   1      header type                 00        -         -     -      -         -
//	0x00f   1      BIST                        00        -         -     -      -         -
//	0x010   4      BAR 0                       00000000  fffff000  -     -      -         -
//	0x014   4      BAR 1                       00000001  ffffffc0  -     -      -         -
//	0x018   4      BAR 2                       0000000c  -         -     -      -         -
//	0x01c   4      BAR 2, upper half           00000000  fffffffe  -     -      -         -
//	0x020   4      BAR 4                       00000004  fff00000  -     -      -         -
//	0x024   4      BAR 4, upper half           00000000  ffffffff  -     -      -         -
//	0x02c   2      subsystem vendor ID         9abc      -         -     -      -         -
//	0x02e   2      subsystem ID                def0      -         -     -      -         -
//	0x030   4      expansion ROM               00000000  ffff0001  -     -      -         -
//	0x034   1      capabilities                40        -         -     -      -         -
//	0x03c   1      interrupt line              00        ff        -     -      -         -
//	0x03d   1      interrupt pin               01        -         -     -      -         -
//	0x040   1      PM ID                       01        -         -     -      -         -
//	0x041   1      PM next                     48        -         -     -      -         -
//	0x042   2      PM capabilities             0203      -         -     -      -         -
//	0x044   2      PM control                  0000      0003      -     -      -         -
//	0x048   1      MSI ID                      05        -         -     -      -         -
//	0x049   1      MSI next                    60        -         -     -      -         -
//	0x04a   2      MSI control                 0184      0071      -     -      -         -
//	0x04c   4      MSI address                 00000000  fffffffc  -     -      -         -
//	0x050   4      MSI address, upper half     00000000  ffffffff  -     -      -         -
//	0x054   2      MSI data                    0000      ffff      -     -      -         -
//	0x058   4      MSI mask                    00000000  0000000f  -     -      -         -
//	0x05c   4      MSI pending                 00000000  -         -     -      0000000f  -
//	0x060   1      MSI-X ID                    11        -         -     -      -         -
//	0x061   1      MSI-X next                  6c        -         -     -      -         -
//	0x062   2      MSI-X control               0020      c000      -     -      -         -
//	0x064   4      MSI-X table                 00000000  -         -     -      -         -
//	0x068   4      MSI-X PBA                   00008004  -         -     -      -         -
//	0x06c   1      PCIe ID                     10        -         -     -      -         -
//	0x06d   1      PCIe next                   a8        -         -     -      -         -
//	0x06e   2      PCIe capabilities           0002      -         -     -      -         -
//	0x070   4      PCIe device capabilities    10008001  -         -     -      -         -
//	0x074   2      PCIe device control         2810      78ff      -     8000   -         00e0
//	0x076   2      PCIe device status          0000      -         000f  -      0020      0020*
//	0x078   4      PCIe link capabilities      00000011  -         -     -      -         -
//	0x07c   2      PCIe link control           0000      00cb      -     -      -         00cb
//	0x07e   2      PCIe link status            0011      -         -     -      -         -
//	0x090   4      PCIe device capabilities 2  00000010  -         -     -      -         -
//	0x094   2      PCIe device control 2       0000      0010      -     -      -         -
//	0x098   4      PCIe link capabilities 2    00000002  -         -     -      -         -
//	0x09c   2      PCIe link control 2         0001      000f      -     -      -         000f*
//	0x0a8   1      VNDR ID                     09        -         -     -      -         -
//	0x0a9   1      VNDR next                   00        -         -     -      -         -
//	0x0aa   1      VNDR length                 09        -         -     -      -         -
//	0x0ab   1      VNDR data 0                 01        -         -     -      -         -
//	0x0ac   4      VNDR data 1                 05040302  0000fff0  -     -      -         -
//	0x0b0   1      VNDR data 5                 06        -         -     -      -         -
//	0x100   4      DVSEC header                11010023  -         -     -      -         -
//	0x104   4      DVSEC header 1              00f11e98  -         -     -      -         -
//	0x108   2      DVSEC header 2              0008      -         -     -      -         -
//	0x10a   1      DVSEC data 0                01        -         -     -      -         -
//	0x10b   1      DVSEC data 1                00        -         -     -      -         -
//	0x10c   1      DVSEC data 2                02        ff        -     -      -         -
//	0x10d   1      DVSEC data 3                00        -         -     -      -         -
//	0x10e   1      DVSEC data 4                03        -         -     -      -         -
//	0x110   4      DVSEC header                00010023  -         -     -      -         -
//	0x114   4      DVSEC header 1              00a01234  -         -     -      -         -
//	0x118   2      DVSEC header 2              0001      -         -     -      -         -
package pci
