//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	pageSize     = 4096
	hugePageSize = 2 << 20
)

// sysfs reaches the device without a driver, in a machine without an IOMMU: BARs
// and configuration space are files, memory is named by its physical address,
// and the MSI-X table is written by hand.
//
// The interrupts are real ones: each vector is given the message of a local
// APIC's vector for which every kernel has a handler that counts and does
// nothing else, while no virtual machine runs inside this one.
type sysfs struct {
	address string
	config  *os.File
	bars    [6]*window
	memory  [][]byte
	before  [vectors]uint64
}

// handlers are the local APIC's vectors, and the rows of /proc/interrupts that
// count them. The fourth is the one by which processors wake each other, of
// which there is only one here.
var handlers = [vectors]struct {
	vector uint32
	row    string
}{
	{0xf2, "PIN"},
	{0xf1, "PIW"},
	{0xf0, "NPI"},
	{0xfd, "RES"},
}

// Where the MSI-X table is, and what is in an entry.
const (
	msixBAR      = 1
	msixEntry    = 16
	localAPIC    = 0xfee00000 // of processor 0, fixed delivery
	msixEnable   = 1 << 15
	msiEnable    = 1 << 0
	msiVectors   = 7 << 4
	msi64        = 1 << 7
	capPower     = 0x01
	capExpress   = 0x10
	capMSI       = 0x05
	capMSIX      = 0x11
	capVendor    = 0x09
	regCommand   = 0x04
	memoryDecode = 1 << 1
	busMaster    = 1 << 2
)

func openSysfs(address string) (*sysfs, error) {
	if err := sysWrite(sysPath(address, "enable"), "1"); err != nil {
		return nil, fmt.Errorf("enable: %w", err)
	}
	config, err := os.OpenFile(sysPath(address, "config"), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	m := &sysfs{address: address, config: config}
	if err := m.start(); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// start lets the device decode its BARs and reach memory.
func (m *sysfs) start() error {
	return m.setConfig(regCommand, memoryDecode|busMaster, memoryDecode|busMaster)
}

func (m *sysfs) readConfig(off, n int) (uint32, error) {
	var b [4]byte
	if _, err := m.config.ReadAt(b[:n], int64(off)); err != nil {
		return 0, fmt.Errorf("config read of %d at %#x: %w", n, off, err)
	}
	return binary.LittleEndian.Uint32(b[:]), nil
}

func (m *sysfs) writeConfig(off, n int, v uint32) error {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	if _, err := m.config.WriteAt(b[:n], int64(off)); err != nil {
		return fmt.Errorf("config write of %d at %#x: %w", n, off, err)
	}
	return nil
}

func (m *sysfs) bar(i int) (*window, error) {
	if m.bars[i] != nil {
		return m.bars[i], nil
	}
	size, err := barSize(m.address, i)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(sysPath(m.address, fmt.Sprintf("resource%d", i)), os.O_RDWR|unix.O_SYNC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m.bars[i], err = mapWindow(int(f.Fd()), 0, int(size))
	return m.bars[i], err
}

func (m *sysfs) buffer(n int) (*buffer, error) {
	if n > hugePageSize {
		return nil, fmt.Errorf("%#x bytes are more than a huge page", n)
	}
	const free = "/proc/sys/vm/nr_hugepages"
	have, err := sysNumber(free)
	if err != nil {
		return nil, err
	}
	if have < 4 {
		if err := sysWrite(free, "4"); err != nil {
			return nil, err
		}
	}
	return m.locked(n, hugePageSize, unix.MAP_HUGETLB)
}

func (m *sysfs) pages(n int) ([]*buffer, error) {
	var list []*buffer
	for range n {
		b, err := m.locked(pageSize, pageSize, 0)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

func (m *sysfs) locked(n, page, flags int) (*buffer, error) {
	mem, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_LOCKED|unix.MAP_POPULATE|flags)
	if err != nil {
		return nil, fmt.Errorf("a locked page of %#x: %w", page, err)
	}
	m.memory = append(m.memory, mem)
	mem[0] = 0 // it is there, and nobody else's
	addr, err := physical(mem)
	return &buffer{mem[:n], addr}, err
}

// physical is the address that a page of this process has in the machine.
// See Documentation/admin-guide/mm/pagemap.rst.
func physical(mem []byte) (uint64, error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var b [8]byte
	if _, err := f.ReadAt(b[:], int64(addressOf(mem)/pageSize*8)); err != nil {
		return 0, err
	}
	const present, frame = 1 << 63, 1<<55 - 1
	entry := binary.LittleEndian.Uint64(b[:])
	if entry&present == 0 || entry&frame == 0 {
		return 0, fmt.Errorf("pagemap entry %#x names no frame", entry)
	}
	return (entry & frame) * pageSize, nil
}

func (m *sysfs) release() error {
	var err error
	for _, mem := range m.memory {
		err = errors.Join(err, unix.Munmap(mem))
	}
	m.memory = nil
	return err
}

// nowhere is far above all memory of this machine.
func (m *sysfs) nowhere() uint64 { return 0x70_0000_0000 }

func (m *sysfs) arm() (int, error) {
	var err error
	if m.before, err = m.counters(); err != nil {
		return 0, err
	}
	id, at, err := interruptsBy(m)
	if err != nil {
		return 0, err
	}
	if id == capMSI {
		return 1, m.armMSI(at)
	}
	table, err := m.bar(msixBAR)
	if err != nil {
		return 0, err
	}
	for i, h := range handlers {
		entry := i * msixEntry
		table.write32(entry+12, 1)
		table.write32(entry, localAPIC)
		table.write32(entry+4, 0)
		table.write32(entry+8, h.vector)
		table.write32(entry+12, 0)
	}
	return vectors, m.setConfig(at+2, msixEnable, msixEnable)
}

func (m *sysfs) armMSI(at int) error {
	control, err := m.readConfig(at+2, 2)
	if err != nil {
		return err
	}
	data := at + 8
	if control&msi64 != 0 {
		data = at + 12
		if err := m.writeConfig(at+8, 4, 0); err != nil {
			return err
		}
	}
	return errors.Join(
		m.writeConfig(at+4, 4, localAPIC),
		m.writeConfig(data, 2, handlers[0].vector),
		m.setConfig(at+2, msiVectors|msiEnable, msiEnable))
}

func (m *sysfs) disarm() error {
	id, at, err := interruptsBy(m)
	if err != nil {
		return err
	}
	if id == capMSI {
		return m.setConfig(at+2, msiEnable, 0)
	}
	return m.setConfig(at+2, msixEnable, 0)
}

// setConfig sets the bits of mask in a word of configuration space.
func (m *sysfs) setConfig(off int, mask, bits uint32) error {
	was, err := m.readConfig(off, 2)
	if err != nil {
		return err
	}
	return m.writeConfig(off, 2, was&^mask|bits)
}

func (m *sysfs) interrupts() ([vectors]uint64, error) {
	n, err := m.counters()
	for i := range n {
		n[i] -= m.before[i]
	}
	return n, err
}

func (m *sysfs) counters() ([vectors]uint64, error) {
	b, err := os.ReadFile("/proc/interrupts")
	if err != nil {
		return [vectors]uint64{}, err
	}
	return countersIn(string(b))
}

// countersIn reads our rows: a name, a column for each processor, a text.
func countersIn(interrupts string) (n [vectors]uint64, err error) {
	found := 0
	for line := range strings.Lines(interrupts) {
		fields := strings.Fields(line)
		for i, h := range handlers {
			if len(fields) == 0 || fields[0] != h.row+":" {
				continue
			}
			found++
			for _, f := range fields[1:] {
				c, err := strconv.ParseUint(f, 10, 64)
				if err != nil {
					break
				}
				n[i] += c
			}
		}
	}
	if found != vectors {
		return n, fmt.Errorf("%d of the %d counters are in /proc/interrupts", found, vectors)
	}
	return n, nil
}

func (m *sysfs) reset() error { return sysWrite(sysPath(m.address, "reset"), "1") }

func (m *sysfs) close() error {
	err := m.release()
	for i, w := range m.bars {
		if w != nil {
			err = errors.Join(err, w.unmap())
			m.bars[i] = nil
		}
	}
	return errors.Join(err, m.config.Close(), sysWrite(sysPath(m.address, "enable"), "0"))
}
