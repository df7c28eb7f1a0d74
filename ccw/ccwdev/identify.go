package ccwdev

import (
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// maxSenseID is as much as a recording keeps of an answer to SENSE ID.
const maxSenseID = 255

// storage is memory of a channel subsystem, from address 0 on.
type storage []byte

func (s storage) at(a addr.HPA, n int) ([]byte, error) {
	if uint64(a) > uint64(len(s)) || uint64(n) > uint64(len(s))-uint64(a) {
		return nil, errs.Addr("hpa", uint64(a), errs.ErrReach)
	}
	return s[a:][:n], nil
}

// Read implements [channel.Memory].
func (s storage) Read(a addr.HPA, p []byte) error {
	b, err := s.at(a, len(p))
	copy(p, b)
	return err
}

// Write implements [channel.Memory].
func (s storage) Write(a addr.HPA, p []byte) error {
	b, err := s.at(a, len(p))
	copy(b, p)
	return err
}

// senseID asks a unit who it is, before anybody else uses it; nil if it does
// not say.
func senseID(u channel.Device) []byte {
	mem := make(storage, cio.CCWSize+maxSenseID)
	ask := cio.CCW{Command: cio.SenseID, Flags: cio.SuppressLength, Count: maxSenseID, Addr: cio.CCWSize}
	b := ask.Encode1()
	copy(mem, b[:])
	var orb cio.ORB
	orb.SetFormat1(true)
	orb.SetLPM(0x80)
	var irb cio.IRB
	s := channel.New(mem, u, cio.DefaultPMCW(), nil)
	defer s.Close()
	if s.Start(&orb) != 0 || s.Test(&irb) != 0 || irb.SCSW.Device() != cio.Ended || irb.SCSW.Subchannel() != 0 {
		return nil
	}
	return mem[cio.CCWSize:][:maxSenseID-int(irb.SCSW.Count())]
}
