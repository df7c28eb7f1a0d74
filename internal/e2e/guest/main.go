//go:build linux

// Command guest runs in a virtual machine that the end-to-end tests start, as
// the program that its init hands over to. It drives the demo device from user
// space, as a driver would, and tells over a serial line what it found.
//
// It reads one request a line, "check how [n]", where how is "sysfs" or "vfio", and
// answers with any number of lines
//
//	PASS name
//	FAIL name: why
//	INFO text
//
// and then DONE.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	line, err := openLine(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	t := &reporter{out: line}
	fmt.Fprintln(line, "READY")
	for scanner := bufio.NewScanner(line); scanner.Scan(); {
		serve(t, strings.Fields(scanner.Text()))
		fmt.Fprintln(line, "DONE")
	}
}

// openLine opens a serial line for bytes: no echo, no translation.
func openLine(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	raw := &unix.Termios{Cflag: unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200, Iflag: unix.IGNCR}
	raw.Cc[unix.VMIN] = 1
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, raw); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// A reporter prints what a check found.
type reporter struct{ out io.Writer }

func (t *reporter) check(name string, f func() error) {
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		return f()
	}()
	if err != nil {
		fmt.Fprintf(t.out, "FAIL %s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	fmt.Fprintf(t.out, "PASS %s\n", name)
}

func (t *reporter) info(format string, args ...any) {
	fmt.Fprintf(t.out, "INFO "+format+"\n", args...)
}

// held is the device that a request left open for a later one.
var held *driver

// serve answers one request.
func serve(t *reporter, words []string) {
	if len(words) == 0 {
		return
	}
	var how string
	n := 0
	if len(words) > 1 {
		how = words[1]
	}
	if len(words) > 2 {
		n, _ = strconv.Atoi(words[2])
	}
	switch words[0] {
	case "ping":
	case "poweroff":
		unix.Sync()
		t.check("machine/poweroff", func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) })
	case "reboot":
		unix.Sync()
		t.check("machine/reboot", func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) })
	case "absent":
		t.check("hotplug/absent", func() error { return present(false) })
	case "present":
		t.check("hotplug/present", func() error { return present(true) })
	case "dead":
		dead(t)
	case "release":
		if held != nil {
			t.check("close", held.close)
			held = nil
		}
	default:
		t.check("open/"+how, func() error {
			d, err := take(how)
			if err != nil {
				return err
			}
			run(t, d, words[0], how, n)
			return nil
		})
	}
}

// run makes the checks of one name with a device of its own, which it closes
// unless the request is to leave it open.
func run(t *reporter, d *driver, name, how string, n int) {
	keep := false
	switch name {
	case "identity", "identity-msi":
		address, _ := findDevice()
		identity(t, d, address, name == "identity-msi")
	case "registers":
		registers(t, d)
	case "burst":
		burst(t, d, n)
	case "memory":
		memory(t, d)
	case "interrupts":
		interrupts(t, d)
	case "dma":
		dma(t, d)
	case "errors":
		wrong(t, d)
	case "resets":
		resets(t, d)
	case "alive":
		t.check("alive", d.alive)
	case "dirty":
		t.check("reset/dirtied", d.dirty)
	case "fresh":
		t.check("reset/machine", func() error { return fresh(d) })
	case "edges":
		edges(t, d, d.machine.(*vfio))
	case "map":
		mapMany(t, d, d.machine.(*vfio), n)
		keep = true
	case "unmap":
		unmapMany(t, d, d.machine.(*vfio), n)
	case "hold":
		t.check("hold", d.alive)
		keep = true
	case "busy":
		keep = true
		t.check("busy", func() error { return busy(d) })
	default:
		t.check(name, func() error { return errors.New("no such check") })
	}
	if keep {
		held = d
		return
	}
	held = nil
	t.check("close/"+how, func() error { return errors.Join(d.disarm(), d.close()) })
}

// take opens the device, or takes the one that is open.
func take(how string) (*driver, error) {
	if held != nil {
		return held, nil
	}
	var address string
	err := waitFor(patience, "the device", func() (_ bool, err error) {
		address, err = findDevice()
		return address != "", err
	})
	if err != nil {
		return nil, err
	}
	var m machine
	switch how {
	case "sysfs":
		m, err = openSysfs(address)
	case "vfio":
		m, err = openVFIO(address)
	default:
		err = fmt.Errorf("%q is no way to a device", how)
	}
	if err != nil {
		return nil, err
	}
	d, err := newDriver(m)
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return d, nil
}

func present(want bool) error {
	return waitFor(patience, fmt.Sprintf("present=%v", want), func() (bool, error) {
		address, err := findDevice()
		return (address != "") == want, err
	})
}

// busy keeps the device copying a megabyte at a time for as long as the machine
// runs.
func busy(d *driver) error {
	b, err := d.buffer(hugePageSize)
	if err != nil {
		return err
	}
	if err := d.copy(b.addr+longest, b.addr, longest); err != nil {
		return err
	}
	go func() {
		for d.copy(b.addr+longest, b.addr, longest) == nil {
		}
	}()
	return nil
}

// dead: the device's other end has gone. Everything reads as ones, nothing
// hangs, and the machine goes on.
func dead(t *reporter) {
	t.check("dead/all-ones", func() error {
		if held == nil {
			return errors.New("no device is held")
		}
		began := time.Now()
		for _, off := range []int{regID, regScratch, regStatus} {
			if got := held.regs.read32(off); got != 0xffffffff {
				return fmt.Errorf("%#x at %#x", got, off)
			}
		}
		held.regs.write32(regScratch, 1)
		if took := time.Since(began); took > patience {
			return fmt.Errorf("it took %v", took)
		}
		return nil
	})
}
