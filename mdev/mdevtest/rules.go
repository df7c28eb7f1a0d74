package mdevtest

import "fmt"

// wrongLocked notes a broken rule. Preconditions: d.mu is held.
func (d *Device) wrongLocked(format string, args ...any) {
	d.wrong = append(d.wrong, fmt.Sprintf(format, args...))
}

// begin notes a call that excludes accesses; end ends it. The error is that of
// the fault point of that name.
func (d *Device) begin(call string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case call != "open" && d.at == nil:
		d.wrongLocked("%s while closed", call)
	case d.alone != "":
		d.wrongLocked("%s during %s", call, d.alone)
	case d.inside != 0:
		d.wrongLocked("%s during %d accesses", call, d.inside)
	case d.stream != "" && call != "quiesce" && call != "unquiesce":
		d.wrongLocked("%s during %s", call, d.stream)
	}
	d.calls = append(d.calls, call)
	d.alone = call
	point := ""
	switch call {
	case "open", "quiesce":
		point = call
	case "reset device": // the other one is part of an end, which is not to fail
		point = "reset"
	}
	if point != "" {
		if err := d.Fault.Hit("device: " + point); err != nil {
			d.alone = ""
			return err
		}
	}
	return nil
}

func (d *Device) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.alone = ""
}

// access notes the begin of a Read or Write, and returns its end.
func (d *Device) access() func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.at == nil:
		d.wrongLocked("access while closed")
	case d.alone != "":
		d.wrongLocked("access during %s", d.alone)
	case d.stream == "save" || d.stream == "load":
		d.wrongLocked("access during %s", d.stream)
	}
	d.inside++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.inside--
	}
}

// streaming notes the begin of a migration call, and returns its end.
func (d *Device) streaming(call string) func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.at == nil:
		d.wrongLocked("%s while closed", call)
	case d.stream != "":
		d.wrongLocked("%s during %s", call, d.stream)
	case !d.quiesced && call != "precopy":
		d.wrongLocked("%s while it runs", call)
	}
	d.stream = call
	d.calls = append(d.calls, call)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.stream = ""
	}
}
