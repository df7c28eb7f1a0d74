package devicetest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/translate/addr"
)

// PMCW is the path-management word of a device with one path, enabled, with
// concurrent sense.
func PMCW(devno uint16) (p cio.PMCW) {
	p[5] = 0x81                                        // enabled, valid
	p[6], p[7] = byte(devno>>8), byte(devno)           // device number
	p[8], p[11], p[14], p[15] = 0x80, 0x80, 0xFF, 0x80 // LPM, PIM, POM, PAM
	p[27] = 1                                          // concurrent sense
	return p
}

// Machine is a device at a subchannel over memory.
type Machine struct {
	Mem *Memory
	Sub *channel.Subchannel
	// IRBs are the statuses that interruptions brought since the last
	// program began, in order.
	IRBs []cio.IRB
}

// NewMachine is a machine with size bytes of storage.
func NewMachine(dev channel.Device, pmcw cio.PMCW, size uint64) *Machine {
	m := &Machine{Mem: NewMemory(size)}
	m.Sub = channel.New(m, dev, pmcw, &channel.Config{Interrupt: m.interrupt})
	return m
}

// Read, Write and Check go to the memory that the machine has right now.
func (m *Machine) Read(a addr.HPA, p []byte) error  { return m.Mem.Read(a, p) }
func (m *Machine) Write(a addr.HPA, p []byte) error { return m.Mem.Write(a, p) }
func (m *Machine) Check(a addr.HPA, n addr.Len, want addr.Access) error {
	return m.Mem.Check(a, n, want)
}

func (m *Machine) interrupt() {
	var irb cio.IRB
	if m.Sub.Test(&irb) == cio.CC0 {
		m.IRBs = append(m.IRBs, irb)
	}
}

// Last is the last status.
func (m *Machine) Last() *cio.IRB {
	if len(m.IRBs) == 0 {
		return new(cio.IRB)
	}
	return &m.IRBs[len(m.IRBs)-1]
}

// Op is a CCW of a program that a test spells out, of format 1. Data for the
// device stands in Out; In bytes come back.
type Op struct {
	Cmd   cio.Command
	Flags cio.Flags
	Out   []byte
	In    int
	Count int // if not len(Out) or In
}

// Result is what a program did.
type Result struct {
	Device  cio.DeviceStatus
	Channel cio.SubchannelStatus
	Count   int      // residual
	At      int      // index of the CCW that ended the program
	Sense   []byte   // concurrent sense
	In      [][]byte // for each CCW what its area holds afterwards
}

const (
	programBase = 0x1000
	dataBase    = 0x10000
	dataStride  = 0x10000
)

// Run runs a program in storage that is made fresh. A read backward gets the
// last byte of its area as address; the last CCW does not chain.
func (m *Machine) Run(tb testing.TB, ops ...Op) Result {
	tb.Helper()
	m.Mem = NewMemory(uint64(dataBase + dataStride*(len(ops)+1)))
	m.IRBs = m.IRBs[:0]
	for i, op := range ops {
		data := dataBase + i*dataStride
		if i == len(ops)-1 {
			op.Flags &^= cio.ChainCommand
		}
		n := max(op.Count, op.In, len(op.Out))
		a := data
		if op.Cmd.Class(true) == cio.ClassReadBackward {
			a += n - 1
		}
		ccw := cio.CCW{Command: op.Cmd, Flags: op.Flags, Count: uint16(n), Addr: uint32(a)}.Encode1()
		require.NoError(tb, m.Mem.Write(addr.HPA(programBase+8*i), ccw[:]))
		require.NoError(tb, m.Mem.Write(addr.HPA(data), op.Out))
	}
	var orb cio.ORB
	orb.SetFormat1(true)
	orb.SetLPM(0xFF)
	orb.SetProgram(programBase)
	require.Equal(tb, cio.CC0, m.Sub.Start(&orb))
	irb := m.Last()
	r := Result{
		Device:  irb.SCSW.Device(),
		Channel: irb.SCSW.Subchannel(),
		Count:   int(irb.SCSW.Count()),
		At:      (int(irb.SCSW.CCWAddr())-programBase)/8 - 1,
		Sense:   append([]byte(nil), irb.Sense()...),
	}
	for i, op := range ops {
		b := make([]byte, max(op.Count, op.In, len(op.Out)))
		require.NoError(tb, m.Mem.Read(addr.HPA(dataBase+i*dataStride), b))
		r.In = append(r.In, b)
	}
	return r
}

// Replay runs one record, or goes on with the one before if it resumes, and
// says in which ways the outcome differs from the recorded one.
func (m *Machine) Replay(tb testing.TB, r *Record) (diffs []string) {
	resume := r.Op == "rsch"
	if !resume {
		m.Mem = NewMemory(m.Mem.Size)
	}
	for i := range r.Memory {
		a, b := r.Memory[i].Bytes(tb)
		require.NoError(tb, m.Mem.Write(a, b))
	}
	want := m.Mem.Clone()
	for i := range r.Expect.Memory {
		a, b := r.Expect.Memory[i].Bytes(tb)
		require.NoError(tb, want.Write(a, b))
	}
	m.IRBs = m.IRBs[:0]
	var orb cio.ORB
	copy(orb.Raw[:], r.ORB)
	if resume {
		require.Equal(tb, cio.CC0, m.Sub.Resume())
	} else if cc := m.Sub.Start(&orb); cc != cio.CC0 {
		return []string{"start: " + cc.String()}
	}
	differ := func(name string, got []byte, want Hex) {
		if string(got) != string(want) {
			diffs = append(diffs, fmt.Sprintf("%s: got %x, want %x", name, got, []byte(want)))
		}
	}
	irb := m.Last()
	differ("SCSW", irb.SCSW[:], r.Expect.SCSW)
	differ("ESW", irb.ESW[:], r.Expect.ESW)
	differ("ECW", irb.ECW[:], r.Expect.ECW)
	if d := m.Mem.Diff(want); d != "" {
		diffs = append(diffs, d)
	}
	return diffs
}

// MachineFor is a machine for the device of a record.
func MachineFor(dev channel.Device, r *Record, size uint64) *Machine {
	return NewMachine(dev, cio.PMCW(r.PMCW), size)
}
