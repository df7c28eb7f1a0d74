//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// vfio reaches the device through the kernel's vfio-pci, in a machine with an
// IOMMU: each page that the device may reach is mapped for it by itself, at an
// address of our choice.
//
// Layouts and numbers are those of linux/vfio.h.
type vfio struct {
	address   string
	container int
	group     int
	device    int
	bars      [6]*window
	memory    [][]byte
	next      uint64 // the IOVA of the next buffer
	events    [vectors]int
	counts    [vectors]uint64
	armed     uint32 // the interrupt index that is in use
}

const (
	vfioBase        = ';'<<8 + 100
	setIOMMU        = vfioBase + 2
	groupStatus     = vfioBase + 3
	groupContainer  = vfioBase + 4
	groupDevice     = vfioBase + 6
	deviceInfo      = vfioBase + 7
	regionInfo      = vfioBase + 8
	irqInfo         = vfioBase + 9
	setIRQs         = vfioBase + 10
	deviceReset     = vfioBase + 11
	mapDMA          = vfioBase + 13
	unmapDMA        = vfioBase + 14
	type1v2         = 3
	viable          = 1
	configRegion    = 7
	msiIRQ          = 1
	msixIRQ         = 2
	irqEventFD      = 1<<2 | 1<<5 // data eventfd, action trigger
	irqNone         = 1<<0 | 1<<5
	mapRead         = 1
	mapWrite        = 2
	firstIOVA       = 0x1_0000_0000
	unusedIOVA      = 0x3f_0000_0000
	vfioMinorDevice = "/dev/vfio/vfio"
)

// The kernel's structures; what this program has no use for has no name.
type (
	groupStatusArg struct{ argsz, flags uint32 }
	deviceInfoArg  struct{ argsz, _, regions, irqs, _, _ uint32 }
	regionInfoArg  struct {
		argsz, _, index, _ uint32
		size, offset       uint64
	}
	irqInfoArg struct{ argsz, _, index, count uint32 }
	mapArg     struct {
		argsz, flags      uint32
		vaddr, iova, size uint64
	}
	unmapArg struct {
		argsz, _   uint32
		iova, size uint64
	}
	irqSetArg struct {
		argsz, flags, index, _, count uint32
		fds                           [vectors]int32
	}
)

// openVFIO gives the device to vfio-pci and takes it from there.
func openVFIO(address string) (m *vfio, err error) {
	m = &vfio{address: address, container: -1, group: -1, device: -1, next: firstIOVA}
	for i := range m.events {
		m.events[i] = -1
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if err := m.bind(); err != nil {
		return m, err
	}
	link, err := os.Readlink(sysPath(address, "iommu_group"))
	if err != nil {
		return m, err
	}
	if m.container, err = unix.Open(vfioMinorDevice, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return m, err
	}
	group := filepath.Join("/dev/vfio", filepath.Base(link))
	// devtmpfs makes the node some time after the bind.
	err = waitFor(5*time.Second, group, func() (bool, error) {
		m.group, err = unix.Open(group, unix.O_RDWR|unix.O_CLOEXEC, 0)
		return err == nil, nil
	})
	if err != nil {
		return m, err
	}
	status := groupStatusArg{argsz: 8}
	if _, err := ioctl(m.group, groupStatus, &status); err != nil || status.flags&viable == 0 {
		return m, fmt.Errorf("group %s is not viable: flags %#x, %v", group, status.flags, err)
	}
	fd := int32(m.container)
	if _, err := ioctl(m.group, groupContainer, &fd); err != nil {
		return m, fmt.Errorf("container of group: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(m.container), setIOMMU, type1v2); errno != 0 {
		return m, fmt.Errorf("type 1 version 2: %w", errno)
	}
	var name [64]byte
	copy(name[:], address)
	if m.device, err = ioctl(m.group, groupDevice, &name); err != nil {
		m.device = -1
		return m, fmt.Errorf("device of group: %w", err)
	}
	info := deviceInfoArg{argsz: 24}
	if _, err := ioctl(m.device, deviceInfo, &info); err != nil {
		return m, fmt.Errorf("device info: %w", err)
	}
	if info.regions < 9 || info.irqs < 5 {
		return m, fmt.Errorf("%d regions and %d interrupt types", info.regions, info.irqs)
	}
	cmd, err := m.readConfig(regCommand, 2)
	if err != nil {
		return m, err
	}
	return m, m.writeConfig(regCommand, 2, cmd|memoryDecode|busMaster)
}

func (m *vfio) bind() error {
	driver, err := os.Readlink(sysPath(m.address, "driver"))
	if err == nil && filepath.Base(driver) == "vfio-pci" {
		return nil
	}
	if err := sysWrite(sysPath(m.address, "driver_override"), "vfio-pci"); err != nil {
		return err
	}
	return sysWrite("/sys/bus/pci/drivers_probe", m.address)
}

func (m *vfio) region(i int) (regionInfoArg, error) {
	r := regionInfoArg{argsz: 32, index: uint32(i)}
	_, err := ioctl(m.device, regionInfo, &r)
	return r, err
}

func (m *vfio) readConfig(off, n int) (uint32, error) {
	r, err := m.region(configRegion)
	if err != nil {
		return 0, err
	}
	var b [4]byte
	if _, err := unix.Pread(m.device, b[:n], int64(r.offset)+int64(off)); err != nil {
		return 0, fmt.Errorf("config read of %d at %#x: %w", n, off, err)
	}
	return binary.LittleEndian.Uint32(b[:]), nil
}

func (m *vfio) writeConfig(off, n int, v uint32) error {
	r, err := m.region(configRegion)
	if err != nil {
		return err
	}
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	if _, err := unix.Pwrite(m.device, b[:n], int64(r.offset)+int64(off)); err != nil {
		return fmt.Errorf("config write of %d at %#x: %w", n, off, err)
	}
	return nil
}

func (m *vfio) bar(i int) (*window, error) {
	if m.bars[i] != nil {
		return m.bars[i], nil
	}
	r, err := m.region(i)
	if err != nil {
		return nil, err
	}
	m.bars[i], err = mapWindow(m.device, int64(r.offset), int(r.size))
	return m.bars[i], err
}

// locked is n bytes of memory, a multiple of the page size, mapped at an IOVA.
func (m *vfio) locked(n int, iova uint64, access uint32) (*buffer, error) {
	mem, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	m.memory = append(m.memory, mem)
	return &buffer{mem, iova}, m.mapAt(mem, iova, access)
}

func (m *vfio) mapAt(mem []byte, iova uint64, access uint32) error {
	arg := mapArg{argsz: 32, flags: access, vaddr: uint64(addressOf(mem)), iova: iova, size: uint64(len(mem))}
	if _, err := ioctl(m.container, mapDMA, &arg); err != nil {
		return fmt.Errorf("map of %#x bytes at %#x: %w", len(mem), iova, err)
	}
	return nil
}

// unmapFrom takes everything away that is mapped between iova and iova+n.
func (m *vfio) unmapFrom(iova, n uint64) (uint64, error) {
	arg := unmapArg{argsz: 24, iova: iova, size: n}
	if _, err := ioctl(m.container, unmapDMA, &arg); err != nil {
		return 0, fmt.Errorf("unmap of %#x bytes at %#x: %w", n, iova, err)
	}
	return arg.size, nil
}

func (m *vfio) buffer(n int) (*buffer, error) {
	if n > hugePageSize {
		return nil, fmt.Errorf("%#x bytes are more than the longest buffer", n)
	}
	whole := (n + pageSize - 1) &^ (pageSize - 1)
	b, err := m.locked(whole, m.next, mapRead|mapWrite)
	if err != nil {
		return nil, err
	}
	m.next += 2 * hugePageSize // with a hole behind it
	b.mem = b.mem[:n]
	return b, nil
}

func (m *vfio) pages(n int) ([]*buffer, error) {
	var list []*buffer
	for range n {
		b, err := m.locked(pageSize, m.next, mapRead|mapWrite)
		if err != nil {
			return nil, err
		}
		m.next += 2 * pageSize
		list = append(list, b)
	}
	m.next = (m.next + 2*hugePageSize) &^ (hugePageSize - 1)
	return list, nil
}

func (m *vfio) release() error {
	_, err := m.unmapFrom(firstIOVA, unusedIOVA-firstIOVA)
	for _, mem := range m.memory {
		err = errors.Join(err, unix.Munmap(mem))
	}
	m.memory, m.next = nil, firstIOVA
	return err
}

func (m *vfio) nowhere() uint64 { return unusedIOVA }

func (m *vfio) arm() (int, error) {
	id, _, err := interruptsBy(m)
	if err != nil {
		return 0, err
	}
	index, n := uint32(msixIRQ), vectors
	if id == capMSI {
		index, n = msiIRQ, 1
	}
	info := irqInfoArg{argsz: 16, index: index}
	if _, err := ioctl(m.device, irqInfo, &info); err != nil {
		return 0, err
	}
	if info.count != vectors {
		return 0, fmt.Errorf("%d vectors, not %d", info.count, vectors)
	}
	arg := irqSetArg{argsz: uint32(20 + 4*n), flags: irqEventFD, index: index, count: uint32(n)}
	for i := range m.events {
		if m.events[i] < 0 {
			fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
			if err != nil {
				return 0, err
			}
			m.events[i] = fd
		}
		arg.fds[i] = int32(m.events[i])
		m.counts[i] = 0
	}
	if _, err := ioctl(m.device, setIRQs, &arg); err != nil {
		return 0, fmt.Errorf("%d vectors: %w", n, err)
	}
	m.armed = index
	return n, nil
}

func (m *vfio) disarm() error {
	if m.armed == 0 {
		return nil
	}
	arg := irqSetArg{argsz: 20, flags: irqNone, index: m.armed}
	m.armed = 0
	_, err := ioctl(m.device, setIRQs, &arg)
	return err
}

func (m *vfio) interrupts() ([vectors]uint64, error) {
	for i, fd := range m.events {
		var b [8]byte
		switch _, err := unix.Read(fd, b[:]); err {
		case nil:
			m.counts[i] += binary.NativeEndian.Uint64(b[:])
		case unix.EAGAIN:
		default:
			return m.counts, fmt.Errorf("eventfd of vector %d: %w", i, err)
		}
	}
	return m.counts, nil
}

func (m *vfio) reset() error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(m.device), deviceReset, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (m *vfio) close() error {
	var err error
	if m.container >= 0 && len(m.memory) > 0 {
		err = m.release()
	}
	for i, w := range m.bars {
		if w != nil {
			err = errors.Join(err, w.unmap())
			m.bars[i] = nil
		}
	}
	for _, fd := range append(m.events[:], m.device, m.group, m.container) {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	return err
}
