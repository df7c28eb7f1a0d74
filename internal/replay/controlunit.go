package replay

import (
	"bytes"
	"fmt"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/dasd"
	"github.com/softmdev/softmdev/internal/recording"
)

// Commands of ECKD volumes that tell what the recorded control unit could do.
const (
	performSubsystemFunction cio.Command = 0x27
	readSubsystemData        cio.Command = 0x3E
	writeFullTrack           cio.Command = 0x95
	sensePathGroup           cio.Command = 0x34
	setPathGroup             cio.Command = 0xAF
	writeTrackData           cio.Command = 0xA5
	readTrackData            cio.Command = 0xA6
	locateRecordExtended     cio.Command = 0x4B
	prefix                   cio.Command = 0xE7
)

// prepareFeatures is the order and suborder of Perform Subsystem Function
// after which Read Subsystem Data tells the feature codes.
const (
	prepareOrder    = 0x18
	featureSuborder = 0x41
)

// eckdConfig is the configuration of the recorded control unit as far as the
// programs of device d show it: the feature codes it told, the optional
// commands that it executed, and the path group that an earlier system left.
// What no program shows is as our default has it.
func (s *Scenario) eckdConfig(d *recording.Device) *dasd.Config {
	cfg := &dasd.Config{DeviceNumber: d.DevNo}
	grouped := false // what a group was before is known, or gone
	for _, rec := range s.recs {
		if rec.Device.Key() != d.Key() {
			continue
		}
		p := newProgram(rec)
		var order, locate []byte
		for k := range p.ops {
			op := &p.ops[k]
			if !op.device {
				continue
			}
			done := op.ended && cio.DeviceStatus(rec.Trace[op.last].DStat)&cio.UnitCheck == 0
			switch op.cmd {
			case sensePathGroup:
				list, _ := p.opAreas(op)
				if b := p.delivered(list, p.opCount(op)-int(rec.Trace[op.last].Resid)); done && !grouped && len(b) > len(cfg.PathGroup) {
					copy(cfg.PathGroup[:], b[1:])
					grouped = true
				}
			case setPathGroup:
				grouped = grouped || done
			case performSubsystemFunction:
				order = p.parameters(op)
			case readSubsystemData:
				if done && len(order) > 6 && order[0] == prepareOrder && order[6] == featureSuborder {
					list, _ := p.opAreas(op)
					copy(cfg.Features[:], p.delivered(list, p.opCount(op)-int(rec.Trace[op.last].Resid)))
				}
			case locateRecordExtended:
				locate = p.parameters(op)
			case prefix:
				locate = nil
				if b := p.parameters(op); len(b) > prefixLocate && b[0] == 1 {
					locate = b[prefixLocate:]
				}
			case writeFullTrack:
				cfg.WriteFullTrack = cfg.WriteFullTrack || done
			case writeTrackData, readTrackData:
				cfg.TrackData = cfg.TrackData || done && ofTrackData(locate)
			}
		}
	}
	return cfg
}

// prefixLocate is where the locate-record parameters of a Prefix stand.
const prefixLocate = 44

// ofTrackData reports whether locate-record-extended parameters announce
// commands that move the data of whole tracks: operation 0C, or 3F with the
// extended operation 23.
func ofTrackData(b []byte) bool {
	if len(b) < 18 {
		return false
	}
	op := b[0] & 0x3F
	return op == 0x0C || op == 0x3F && b[17] == 0x23
}

// parameters are the bytes that an operation fetched, as far as known.
func (p *program) parameters(op *operation) []byte {
	list, _ := p.opAreas(op)
	var out []byte
	for _, a := range list {
		b := make([]byte, min(a.n, mostParameters))
		n := 0
		if !a.skip && !a.backward {
			n = readSegments(p.known, a.a, b)
		}
		out = append(out, b[:n]...)
		if n < int(a.n) || len(out) >= mostParameters {
			break
		}
	}
	return out
}

// mostParameters is more than any command of a volume takes as parameters.
const mostParameters = 4096

// sameUnit refuses a recorded device that is of another type or model, by the
// first 7 bytes of its sense ID: the recording shows another machine.
func sameUnit(d *recording.Device, have []byte) error {
	want := d.SenseID
	n := min(len(want), len(have), 7)
	if n < 7 || bytes.Equal(want[:n], have[:n]) {
		return nil
	}
	return fmt.Errorf("%w of device %s: it told sense ID %x, ours is %x", errNoModel, d.Key(), want[:n], have[:n])
}
