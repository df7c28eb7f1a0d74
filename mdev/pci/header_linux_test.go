package pci_test

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/pci"
)

// TestLinuxHeader compares offsets and bits with the kernel's header.
func TestLinuxHeader(t *testing.T) {
	f, err := os.Open("/usr/include/linux/pci_regs.h")
	if err != nil {
		t.Skip("the kernel's headers are not installed: ", err)
	}
	defer func() { _ = f.Close() }()
	defs := make(map[string]uint64)
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if w := strings.Fields(sc.Text()); len(w) >= 3 && w[0] == "#define" {
			if v, err := strconv.ParseUint(w[2], 0, 64); err == nil {
				defs[w[1]] = v
			}
		}
	}
	for name, v := range map[string]uint64{
		"PCI_VENDOR_ID": pci.RegVendor, "PCI_DEVICE_ID": pci.RegDevice, "PCI_COMMAND": pci.RegCommand, "PCI_STATUS": pci.RegStatus,
		"PCI_REVISION_ID": pci.RegRevision, "PCI_CLASS_PROG": pci.RegInterface, "PCI_CLASS_DEVICE": pci.RegSubclass,
		"PCI_CACHE_LINE_SIZE": pci.RegCacheLine, "PCI_LATENCY_TIMER": pci.RegLatency, "PCI_HEADER_TYPE": pci.RegHeaderType,
		"PCI_BIST": pci.RegBIST, "PCI_BASE_ADDRESS_0": pci.RegBAR0, "PCI_SUBSYSTEM_VENDOR_ID": pci.RegSubVendor,
		"PCI_SUBSYSTEM_ID": pci.RegSubDevice, "PCI_ROM_ADDRESS": pci.RegROM, "PCI_CAPABILITY_LIST": pci.RegCapabilities,
		"PCI_INTERRUPT_LINE": pci.RegInterruptLine, "PCI_INTERRUPT_PIN": pci.RegInterruptPin,

		"PCI_COMMAND_IO": uint64(pci.CommandIO), "PCI_COMMAND_MEMORY": uint64(pci.CommandMemory), "PCI_COMMAND_MASTER": uint64(pci.CommandMaster),
		"PCI_COMMAND_PARITY": uint64(pci.CommandParity), "PCI_COMMAND_SERR": uint64(pci.CommandSERR), "PCI_COMMAND_INTX_DISABLE": uint64(pci.CommandINTxMask),
		"PCI_STATUS_INTERRUPT": pci.StatusInterrupt, "PCI_STATUS_CAP_LIST": pci.StatusCapabilities,

		"PCI_CAP_ID_PM": uint64(pci.IDPower), "PCI_CAP_ID_MSI": uint64(pci.IDMSI), "PCI_CAP_ID_VNDR": uint64(pci.IDVendor),
		"PCI_CAP_ID_EXP": uint64(pci.IDExpress), "PCI_CAP_ID_MSIX": uint64(pci.IDMSIX), "PCI_EXT_CAP_ID_DVSEC": uint64(pci.IDDVSEC &^ pci.Extended),

		"PCI_PM_PMC": pci.PowerCaps, "PCI_PM_CTRL": pci.PowerControl, "PCI_PM_CTRL_STATE_MASK": pci.PowerStateBits, "PCI_PM_CTRL_NO_SOFT_RESET": pci.PowerNoSoftReset,

		"PCI_MSI_FLAGS": pci.MSIControl, "PCI_MSI_FLAGS_ENABLE": pci.MSIEnable, "PCI_MSI_ADDRESS_LO": pci.MSIAddress, "PCI_MSI_ADDRESS_HI": pci.MSIAddressHi,
		"PCI_MSI_DATA_32": pci.MSIData32, "PCI_MSI_MASK_32": pci.MSIMask32, "PCI_MSI_PENDING_32": pci.MSIPending32,
		"PCI_MSI_DATA_64": pci.MSIData64, "PCI_MSI_MASK_64": pci.MSIMask64, "PCI_MSI_PENDING_64": pci.MSIPending64,

		"PCI_MSIX_FLAGS": pci.MSIXControl, "PCI_MSIX_TABLE": pci.MSIXTableAt, "PCI_MSIX_PBA": pci.MSIXPBAAt,
		"PCI_MSIX_FLAGS_QSIZE": pci.MSIXVectors, "PCI_MSIX_FLAGS_MASKALL": pci.MSIXFunctionMask, "PCI_MSIX_FLAGS_ENABLE": pci.MSIXEnable,

		"PCI_EXP_FLAGS": pci.ExpressCaps, "PCI_EXP_DEVCAP": pci.ExpressDeviceCaps, "PCI_EXP_DEVCTL": pci.ExpressDeviceControl,
		"PCI_EXP_DEVSTA": pci.ExpressDeviceStatus, "PCI_EXP_LNKCAP": pci.ExpressLinkCaps, "PCI_EXP_LNKCTL": pci.ExpressLinkControl,
		"PCI_EXP_LNKSTA": pci.ExpressLinkStatus, "PCI_EXP_DEVCAP2": pci.ExpressDeviceCaps2, "PCI_EXP_DEVCTL2": pci.ExpressDeviceCtl2,
		"PCI_EXP_LNKCAP2": pci.ExpressLinkCaps2, "PCI_EXP_LNKCTL2": pci.ExpressLinkControl2,
		"PCI_EXP_DEVCTL_RELAX_EN": pci.DeviceControlRelaxed, "PCI_EXP_DEVCTL_PAYLOAD": pci.DeviceControlPayload,
		"PCI_EXP_DEVCTL_NOSNOOP_EN": pci.DeviceControlNoSnoop, "PCI_EXP_DEVCTL_READRQ": pci.DeviceControlReadSize,
		"PCI_EXP_DEVCTL_BCR_FLR": pci.DeviceControlFLR, "PCI_EXP_DEVSTA_TRPND": pci.DeviceStatusPending,
	} {
		want, found := defs[name]
		require.True(t, found, "%s is not in the header", name)
		require.Equal(t, want, v, name)
	}
}
