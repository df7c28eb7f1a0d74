package scripted_test

import (
	"testing"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/channel/scripted"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/stretchr/testify/require"
)

// paper is 8 KiB that count what is read below the program.
type paper struct {
	b    [0x2000]byte
	read int
}

func (m *paper) Read(a addr.HPA, p []byte) error {
	if a < 0x1000 {
		m.read += len(p)
	}
	copy(p, m.b[a:])
	return nil
}

func (m *paper) Write(a addr.HPA, p []byte) error { copy(m.b[a:], p); return nil }

func run(t *testing.T, dev *scripted.Device, cs ...cio.CCW) (*paper, cio.IRB) {
	t.Helper()
	m := new(paper)
	for i := range 0x1000 {
		m.b[i] = byte(i)
	}
	for i, c := range cs {
		b := c.Encode1()
		copy(m.b[0x1000+8*i:], b[:])
	}
	var p cio.PMCW
	p.SetFlags(cio.PMCWEnabled | cio.PMCWValid | cio.PMCWConcurrentSense)
	p.SetPIM(0x80)
	p.SetPAM(0x80)
	s := channel.New(m, dev, p, nil)
	var o cio.ORB
	o.SetFormat1(true)
	o.SetLPM(0xFF)
	o.SetProgram(0x1000)
	require.Equal(t, cio.CC0, s.Start(&o))
	var irb cio.IRB
	require.Equal(t, cio.CC0, s.Test(&irb))
	return m, irb
}

func TestPlay(t *testing.T) {
	for _, tt := range []struct {
		name    string
		op      scripted.Op
		c       cio.CCW
		check   cio.SubchannelStatus
		count   uint16
		read    int
		fetched int
		stored  string
	}{
		{name: "input", op: scripted.Op{Command: 2, Status: cio.Ended, Moved: 4, Data: []byte("data")},
			c: cio.CCW{Command: 2, Count: 4, Addr: 0x100}, stored: "data"},
		{name: "input that is too short", op: scripted.Op{Command: 2, Status: cio.Ended, Moved: 4, Data: []byte("data")},
			c: cio.CCW{Command: 2, Count: 6, Addr: 0x100}, check: cio.IncorrectLength, count: 2, stored: "data\x04\x05"},
		{name: "input of which there is more", op: scripted.Op{Command: 2, Status: cio.Ended, Moved: 4, Data: []byte("data"), More: true},
			c: cio.CCW{Command: 2, Count: 4, Addr: 0x100}, check: cio.IncorrectLength, stored: "data"},
		{name: "input that is counted and not stored", op: scripted.Op{Command: 2, Status: cio.Ended, Moved: 4, Data: []byte("da")},
			c: cio.CCW{Command: 2, Count: 4, Addr: 0x100}, stored: "da\x02\x03"},
		{name: "more data than moved", op: scripted.Op{Command: 2, Status: cio.Ended, Moved: 2, Data: []byte("data")},
			c: cio.CCW{Command: 2, Flags: cio.SuppressLength, Count: 4, Addr: 0x100}, count: 2, stored: "da\x02\x03"},
		{name: "input is never immediate", op: scripted.Op{Command: 2, Status: cio.Ended},
			c: cio.CCW{Command: 2, Count: 4, Addr: 0x100}, check: cio.IncorrectLength, count: 4},
		{name: "output", op: scripted.Op{Command: 1, Status: cio.Ended, Moved: 4, Fetch: 4},
			c: cio.CCW{Command: 1, Count: 4, Addr: 0x100}, read: 4, fetched: 4},
		{name: "output that is counted and not looked at", op: scripted.Op{Command: 3, Status: cio.Ended, Moved: 1},
			c: cio.CCW{Command: 3, Count: 1, Addr: 0x7FFF_FFFF}},
		{name: "partly", op: scripted.Op{Command: 1, Status: cio.Ended, Moved: 4, Fetch: 3},
			c: cio.CCW{Command: 1, Count: 4, Addr: 0x100}, read: 3, fetched: 3},
		{name: "output of which it wants more", op: scripted.Op{Command: 1, Status: cio.Ended, Moved: 4, Fetch: 4, More: true},
			c: cio.CCW{Command: 1, Count: 4, Addr: 0x100}, check: cio.IncorrectLength, read: 4, fetched: 4},
		{name: "immediate", op: scripted.Op{Command: 3, Status: cio.Ended},
			c: cio.CCW{Command: 3, Flags: cio.SuppressLength, Count: 1}, count: 1},
		{name: "accepted without data", op: scripted.Op{Command: 1, Status: cio.Ended, Accept: true},
			c: cio.CCW{Command: 1, Count: 1}, check: cio.IncorrectLength, count: 1},
		{name: "negative numbers of a broken script", op: scripted.Op{Command: 1, Status: cio.Ended, Moved: -1, Fetch: -1},
			c: cio.CCW{Command: 1, Flags: cio.SuppressLength, Count: 1}, count: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dev := scripted.New([]scripted.Op{tt.op})
			m, irb := run(t, dev, tt.c)
			require.NoError(t, dev.Err())
			require.Equal(t, 1, dev.Done())
			require.Equal(t, tt.check, irb.SCSW.Subchannel())
			require.Equal(t, tt.count, irb.SCSW.Count())
			require.Equal(t, tt.read, m.read)
			require.Len(t, dev.Fetched(), tt.fetched)
			if tt.stored != "" {
				require.Equal(t, tt.stored, string(m.b[0x100:0x100+len(tt.stored)]))
			}
		})
	}
}

func TestSense(t *testing.T) {
	dev := scripted.New([]scripted.Op{{Command: 3, Status: cio.Ended | cio.UnitCheck, Sense: []byte{0x40, 1}}})
	_, irb := run(t, dev, cio.CCW{Command: 3})
	require.Equal(t, []byte{0x40, 1}, irb.Sense())
	require.Nil(t, dev.Sense(), "taken")
	dev.Load([]scripted.Op{{Command: 3, Sense: []byte{1}}})
	dev.Reset()
	require.Nil(t, dev.Sense())
}

func TestAstray(t *testing.T) {
	for _, ops := range [][]scripted.Op{nil, {{Command: 2, Status: cio.Ended}}} {
		dev := scripted.New(ops)
		_, irb := run(t, dev, cio.CCW{Command: 7})
		require.ErrorIs(t, dev.Err(), errs.ErrInvalid)
		require.Equal(t, cio.Ended|cio.UnitCheck, irb.SCSW.Device())
		require.Equal(t, []byte{0x80}, irb.Sense())
	}
}
