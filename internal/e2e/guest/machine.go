//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The device that this program looks for.
const (
	vendorID = 0x6d64
	deviceID = 0x0001
	vectors  = 4
)

// A configReader reads configuration space, 1, 2 or 4 bytes.
type configReader interface {
	readConfig(off, n int) (uint32, error)
}

// A machine is one way to reach the device from user space: through vfio-pci,
// where an IOMMU translates for the device, or through sysfs with physical
// addresses, where none does.
type machine interface {
	configReader
	writeConfig(off, n int, v uint32) error
	bar(i int) (*window, error)
	// buffer is memory that is contiguous for the device, at most 2 MiB.
	buffer(n int) (*buffer, error)
	// pages are single pages that are next to each other neither in memory nor
	// for the device.
	pages(n int) ([]*buffer, error)
	// release gives all buffers and pages back.
	release() error
	// nowhere is an address that the device can reach nothing at.
	nowhere() uint64
	// arm makes the vectors interrupt this machine, disarm none. It says how
	// many they are: all four with MSI-X, one with MSI, of which a processor
	// without interrupt remapping can take no more.
	arm() (int, error)
	disarm() error
	// interrupts counts what each vector has raised since they were armed.
	interrupts() ([vectors]uint64, error)
	// reset is the reset of a function that a driver asks for.
	reset() error
	close() error
}

// A buffer is memory that both this program and the device reach.
type buffer struct {
	mem  []byte
	addr uint64 // as the device calls it
}

// findDevice is the device's address on the bus, "" if there is none. One that
// was plugged is there when it has been given its addresses: its BARs are files
// from then on.
func findDevice() (string, error) {
	dirs, err := filepath.Glob("/sys/bus/pci/devices/*")
	if err != nil {
		return "", err
	}
	for _, d := range dirs {
		v, errV := sysNumber(filepath.Join(d, "vendor"))
		i, errD := sysNumber(filepath.Join(d, "device"))
		_, errB := os.Stat(filepath.Join(d, "resource0"))
		if errV == nil && errD == nil && errB == nil && v == vendorID && i == deviceID {
			return filepath.Base(d), nil
		}
	}
	return "", nil
}

func sysPath(address string, name ...string) string {
	return filepath.Join(append([]string{"/sys/bus/pci/devices", address}, name...)...)
}

func sysNumber(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 0, 64)
}

func sysWrite(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// barSize is what the kernel found out about a BAR by probing it.
func barSize(address string, i int) (uint64, error) {
	b, err := os.ReadFile(sysPath(address, "resource"))
	if err != nil {
		return 0, err
	}
	lines := strings.Split(string(b), "\n")
	if i >= len(lines) {
		return 0, fmt.Errorf("BAR%d: no line in resource", i)
	}
	var start, last, flags uint64
	if _, err := fmt.Sscanf(lines[i], "%v %v %v", &start, &last, &flags); err != nil {
		return 0, fmt.Errorf("BAR%d: %q: %w", i, lines[i], err)
	}
	if last == 0 {
		return 0, nil
	}
	return last - start + 1, nil
}

// interruptsBy is the capability by which the device interrupts, and where it is.
func interruptsBy(m configReader) (id uint32, at int, err error) {
	for _, id := range []uint32{capMSIX, capMSI} {
		if at, err := capability(m, id); err != nil || at != 0 {
			return id, at, err
		}
	}
	return 0, 0, errors.New("neither MSI-X nor MSI is among the capabilities")
}

// capability is where a capability of configuration space is, 0 if there is none.
func capability(m configReader, id uint32) (int, error) {
	ptr, err := m.readConfig(0x34, 1)
	for n := 0; err == nil && ptr != 0 && n < 48; n++ {
		var header uint32
		if header, err = m.readConfig(int(ptr&^3), 2); err == nil {
			if header&0xff == id {
				return int(ptr &^ 3), nil
			}
			ptr = header >> 8
		}
	}
	return 0, err
}

// waitFor asks until it is so or until the time is over.
func waitFor(d time.Duration, what string, so func() (bool, error)) error {
	for end := time.Now().Add(d); ; {
		ok, err := so()
		if ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %v", what, d)
		}
		time.Sleep(100 * time.Microsecond)
	}
}
