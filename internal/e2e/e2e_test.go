//go:build linux

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// How much of a thing is much.
const (
	postedWrites = 20000
	orderWrites  = 400  // that the same check makes besides
	memoryWords  = 1024 // of BAR 2 that are written and read
	manyPages    = 3000
	hotPlugs     = 3
)

// TestMachines attaches the device to four machines: with and without an IOMMU,
// with memory that has a file and with memory that has none, with BAR 2 mapped
// and trapped, so that of any two of these each combination occurs.
func TestMachines(t *testing.T) {
	k := newKit(t)
	began := time.Now()
	checks := 0
	t.Run("trapped", func(t *testing.T) {
		s := k.newServer(t)
		t.Run("files", func(t *testing.T) { checks += files(t, k, s) })
		t.Run("messages-iommu", func(t *testing.T) { checks += messagesIOMMU(t, k, s) })
	})
	t.Run("mapped", func(t *testing.T) {
		s := k.newServer(t, mapped)
		t.Run("messages", func(t *testing.T) { checks += messages(t, k, s) })
		t.Run("files-iommu", func(t *testing.T) { checks += filesIOMMU(t, k, s) })
	})
	fmt.Fprintf(t.Output(), "%d checks passed in %v\n", checks, time.Since(began).Round(time.Second))
}

// files: no IOMMU, memory with a file, BAR 2 trapped, so that writes are posted.
// The device is plugged while the machine runs, and the machine is reset.
func files(t *testing.T, k *kit, s *server) int {
	m := k.boot(t, machineConfig{})
	hotplug(t, k, m)
	m.plug(s.socket)
	m.check("identity")
	m.check("registers")
	memory(m, s)
	m.check("interrupts")
	burst(m, s)
	m.check("dma")
	m.check("errors")
	m.check("resets")
	m.check("dirty")
	m.reboot()
	m.check("fresh")
	m.check("alive")
	m.powerOff()
	m.pass("server/nothing-left", s.empty())
	return m.checks
}

// hotplug plugs a device into a running machine and takes it out again, a few
// times. It is one with MSI: QEMU 11.1 aborts when a vfio-user-pci device that
// has MSI-X is deleted, whatever its server does (vfio_user_msix_teardown
// removes a memory region from a container that has gone).
func hotplug(t *testing.T, k *kit, m *machine) {
	s := k.newServer(t, msi)
	for range hotPlugs {
		m.ask("absent")
		m.plug(s.socket)
		m.check("identity-msi")
		m.check("interrupts")
		m.check("alive")
		m.unplug()
		m.pass("server/nothing-left", s.empty())
	}
}

// messagesIOMMU: an IOMMU, and memory without a file, so that all DMA is asked
// of QEMU, which queues what it sends; the server is one that had a client
// before.
func messagesIOMMU(t *testing.T, k *kit, s *server) int {
	m := k.boot(t, machineConfig{
		socket: s.socket, noFiles: true, iommu: true,
		options: map[string]any{"x-send-queued": true},
	})
	m.check("fresh")
	memory(m, s)
	m.check("interrupts")
	burst(m, s)
	m.check("dma")
	m.check("errors")
	m.check("edges")
	m.check("resets")
	manyMaps(m, s)
	m.powerOff()
	m.pass("server/nothing-left", s.empty())
	return m.checks
}

// messages: no IOMMU, memory without a file, BAR 2 mapped. While the device is
// at work the machine is reset, by who would have to serve its DMA, and later
// QEMU is killed.
func messages(t *testing.T, k *kit, s *server) int {
	m := k.boot(t, machineConfig{socket: s.socket, noFiles: true})
	m.check("identity")
	m.check("registers")
	memory(m, s)
	m.check("interrupts")
	burst(m, s)
	m.check("dma")
	m.check("errors")
	m.check("resets")
	m.check("busy")
	m.reset()
	m.check("fresh")
	m.check("alive")
	m.check("busy")
	m.kill()
	m.pass("server/nothing-left-of-killed", s.empty())
	return m.checks
}

// filesIOMMU: an IOMMU and memory with a file; the server is one whose client
// was killed. In the end it is the server that is killed, and the machine goes
// on - until it changes its memory map, which is where QEMU gives up ("DMA
// mapping failed, unable to continue"); a guest that powers off with an IOMMU
// does so.
func filesIOMMU(t *testing.T, k *kit, s *server) int {
	m := k.boot(t, machineConfig{iommu: true})
	hotplug(t, k, m)
	m.plug(s.socket)
	m.check("identity")
	m.check("fresh")
	m.check("registers")
	memory(m, s)
	m.check("interrupts")
	burst(m, s)
	m.check("dma")
	m.check("errors")
	m.check("edges")
	m.check("resets")
	manyMaps(m, s)
	m.check("busy")
	m.reset()
	m.check("fresh")
	m.check("dirty")
	m.reboot()
	m.check("fresh")

	m.check("hold")
	s.kill()
	m.ask("dead")
	var status struct{ Status string }
	err := m.monitor.execute("query-status", nil, &status)
	if err == nil && status.Status != "running" {
		err = fmt.Errorf("the machine is %s", status.Status)
	}
	m.pass("dead/machine-runs", err)
	m.kill()
	return m.checks
}

// told is by how much a number of the server's grew while f ran.
func (s *server) told(m *machine, f func(), name string, labels ...string) int {
	m.t.Helper()
	now := func() int {
		all, err := s.tells()
		require.NoError(m.t, err)
		return all.sum(name, labels...)
	}
	before := now()
	f()
	return now() - before
}

// memory has the guest use BAR 2. Where that is mapped the server sees nothing
// of it, else every access.
func memory(m *machine, s *server) {
	m.t.Helper()
	n := s.told(m, func() { m.check("memory") }, accesses, `region="memory"`)
	var err error
	if (n == 0) != s.mapped || n != 0 && n < 2*memoryWords {
		err = fmt.Errorf("%d accesses came to the server, mapped: %v", n, s.mapped)
	}
	m.pass("server/memory", err)
}

// burst has the guest write one register many times. On the server's side each
// write arrives once; where writes are posted, none but a few are answered.
func burst(m *machine, s *server) {
	m.t.Helper()
	var n int
	answered := s.told(m, func() {
		n = s.told(m, func() { m.check("burst", postedWrites) }, accesses, `region="registers"`, `op="write"`)
	}, sent, `direction="out"`) / answerSize
	var err error
	if n != postedWrites+orderWrites {
		err = fmt.Errorf("%d writes arrived, not %d", n, postedWrites+orderWrites)
	}
	m.pass("server/writes", err)
	err = nil
	if (answered < postedWrites) == s.mapped {
		err = fmt.Errorf("about %d answers to %d writes, BAR 2 mapped: %v", answered, n, s.mapped)
	}
	m.pass("server/posted", err)
}

// manyMaps has the guest map thousands of single pages, and counts them on the
// server's side.
func manyMaps(m *machine, s *server) {
	m.t.Helper()
	before, err := s.maps()
	require.NoError(m.t, err)
	m.check("map", manyPages)
	m.pass("server/maps", eventually(10*time.Second, func() error {
		now, err := s.maps()
		if err == nil && now < before+manyPages {
			err = fmt.Errorf("%d mappings, %d before %d pages were mapped", now, before, manyPages)
		}
		return err
	}))
	m.check("unmap", manyPages)
	m.pass("server/unmaps", eventually(10*time.Second, func() error {
		now, err := s.maps()
		if err == nil && now >= before+manyPages {
			err = fmt.Errorf("%d mappings are left, %d before %d pages were mapped", now, before, manyPages)
		}
		return err
	}))
}

// Attributes of the device.
const (
	mapped = "mmap=on"        // BAR 2 can be mapped
	msi    = "interrupts=msi" // in place of MSI-X
)
