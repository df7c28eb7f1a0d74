package cio

import (
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/softmdev/softmdev/translate/addr"
	"github.com/stretchr/testify/require"
)

func raw8(s string) (b [8]byte) {
	if n, err := hex.Decode(b[:], []byte(s)); err != nil || n != 8 {
		panic("not 8 bytes: " + s)
	}
	return b
}

func TestCCW(t *testing.T) {
	for _, tt := range []struct {
		name    string
		format1 bool
		raw     string
		want    CCW
	}{
		{"1: format 0 has the address in bytes 1-3 and the flags in byte 4", false, "0212345620000064",
			CCW{Command: 0x02, Addr: 0x123456, Flags: SuppressLength, Count: 100}},
		{"1: byte 5 of format 0 is ignored, and kept", false, "0600000040990001",
			CCW{Command: 0x06, Flags: ChainCommand, Ignored: 0x99, Count: 1}},
		{"1: format 1 has flags, count, address", true, "02c0ffff7fffffff",
			CCW{Command: 0x02, Flags: ChainData | ChainCommand, Count: 65535, Addr: 0x7FFFFFFF}},
		{"1: the top address bit must be 0, and is kept", true, "0800000080000000", CCW{Command: TIC, Addr: 0x80000000}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := raw8(tt.raw)
			require.Equal(t, tt.want, DecodeCCW(&b, tt.format1))
			require.Equal(t, b, tt.want.Encode(tt.format1))
		})
	}
	require.True(t, CCW{Flags: ChainData}.Chains())
	require.True(t, CCW{Flags: ChainCommand}.Chains())
	require.False(t, CCW{Flags: ^(ChainData | ChainCommand)}.Chains())
}

// ccw.md 1: command classes by low bits, for all codes.
func TestClass(t *testing.T) {
	for i := range 256 {
		c := Command(i)
		var want0, want1 Class
		switch {
		case i&0x0F == 0x08:
			want0 = ClassTIC
			if i == 0x08 {
				want1 = ClassTIC
			}
		case i&0x03 == 1:
			want0, want1 = ClassWrite, ClassWrite
		case i&0x03 == 2:
			want0, want1 = ClassRead, ClassRead
		case i&0x03 == 3:
			want0, want1 = ClassControl, ClassControl
		case i&0x0F == 0x04:
			want0, want1 = ClassSense, ClassSense
		case i&0x0F == 0x0C:
			want0, want1 = ClassReadBackward, ClassReadBackward
		}
		require.Equal(t, want0, c.Class(false), "%#x", i)
		require.Equal(t, want1, c.Class(true), "%#x", i)
		require.Equal(t, want1 == ClassTIC, c.IsTIC(true))
	}
	for class, want := range map[Class]addr.Access{
		ClassInvalid: 0, ClassTIC: 0, ClassWrite: addr.Read, ClassControl: addr.Read,
		ClassRead: addr.Write, ClassReadBackward: addr.Write, ClassSense: addr.Write,
	} {
		require.Equal(t, want, class.Access(), class.String())
		require.Equal(t, want == addr.Write, class.Input())
	}
}

// ccw.md 3: number needed = ceil(((first mod block)+count)/block).
func TestIDAWs(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first uint64
		count uint16
		block uint32
		want  int
	}{
		{"no byte, no word", 0x7FF, 0, Block2K, 0},
		{"a block", 0x1000, 4096, Block4K, 1},
		{"one byte over", 0x1001, 4096, Block4K, 2},
		{"65,535 bytes need at most 33 2-KiB words", 0x7FF, 65535, Block2K, 33},
		{"65,535 bytes need at most 17 4-KiB words", 0xFFF, 65535, Block4K, 17},
		{"the last byte of the address space", ^uint64(0), 1, Block4K, 1},
		{"and past it", ^uint64(0), 65535, Block2K, 33},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, IDAWs(tt.first, tt.count, tt.block))
		})
	}
	// Backward and forward against walking the blocks.
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		first, count, block := rnd.Uint64(), uint16(rnd.Uint32()), uint32(Block2K)<<rnd.IntN(2)
		forward, backward := 0, 0
		for left, in := int(count), int(first&uint64(block-1)); left > 0; in = 0 {
			left -= int(block) - in
			forward++
		}
		for left, in := int(count), int(first&uint64(block-1)); left > 0; in = int(block) - 1 {
			left -= in + 1
			backward++
		}
		require.Equal(t, forward, IDAWs(first, count, block))
		require.Equal(t, backward, IDAWsBackward(first, count, block), "%#x %d %d", first, count, block)
	}
}

func TestORB(t *testing.T) {
	var o ORB
	require.Equal(t, uint32(Block2K), o.Block(), "format 1 always has 2 KiB blocks")
	o.SetBlock2K(true)
	require.Equal(t, uint32(Block2K), o.Block(), "T means nothing without H")
	o.SetIDAW2(true)
	require.Equal(t, uint32(Block2K), o.Block())
	o.SetBlock2K(false)
	require.Equal(t, uint32(Block4K), o.Block())

	for _, tt := range []struct {
		name string
		at   int
		bits byte
		x    bool
		want bool
	}{
		{"word 1 bits 26-30 are zero", 7, 0x3E, false, true},
		{"word 1 bit 26", 7, 0x20, false, true},
		{"word 1 bit 30", 7, 0x02, false, true},
		{"word 2 bit 0 is zero", 8, 0x80, false, true},
		{"without X the rest means nothing", 16, 0xFF, false, false},
		{"with X byte 12 is a priority", 12, 0xFF, true, false},
		{"with X byte 13 is zero", 13, 0x01, true, true},
		{"with X byte 14 is a priority", 14, 0xFF, true, false},
		{"with X byte 15 is zero", 15, 0x01, true, true},
		{"with X words 4-7 are zero", 31, 0x01, true, true},
		{"everything else has a meaning", 4, 0xFF, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var o ORB
			o.SetExtended(tt.x)
			o.Raw[tt.at] |= tt.bits
			require.Equal(t, tt.want, o.Reserved())
		})
	}
	o = ORB{Raw: [32]byte{12: 7, 14: 9}}
	css, cu := o.Priority()
	require.Equal(t, [2]uint8{}, [2]uint8{css, cu})
	o.SetExtended(true)
	css, cu = o.Priority()
	require.Equal(t, [2]uint8{7, 9}, [2]uint8{css, cu})
}

func TestMIDAW(t *testing.T) {
	var b [16]byte
	hex.Decode(b[:], []byte("000000000081005000000000000240ff"))
	w := DecodeMIDAW(&b)
	require.Equal(t, MIDAW{Flags: MIDAWLast | 0x01, Count: 0x50, Addr: 0x240FF}, w)
	require.True(t, w.Reserved())
	require.False(t, MIDAW{Flags: MIDAWLast | MIDAWSkip | MIDAWInterrupt}.Reserved())
	require.True(t, MIDAW{Zero: [5]uint8{4: 1}}.Reserved())
	require.True(t, IDAW1(0x8000_0000).Reserved())
	require.False(t, IDAW1(0x7FFF_FFFF).Reserved())
}

func TestConcurrentSenseView(t *testing.T) {
	var i IRB
	require.Nil(t, i.Sense())
	i.ESW.SetERW(ERW(0).WithSense(24))
	require.Nil(t, i.Sense(), "the SCSW's E bit says whether the ECW holds anything")
	i.SCSW.SetFlags(SCSWExtended)
	require.Len(t, i.Sense(), 24)
	i.ESW.SetERW(ERW(0).WithSense(63))
	require.Len(t, i.Sense(), 32, "a count beyond the ECW is cut")
	require.Equal(t, ERW(0x0118_0000), ERW(0).WithSense(24))
	require.Equal(t, 24, ERW(0x0118_0000).SenseCount())
}

func TestCRW(t *testing.T) {
	w := MakeCRW(CRWSolicited|0xFFFF, SourceChannelPath, RecoveryPermanent, 0x42)
	require.Equal(t, CRW(0x4406_0042), w)
	require.Equal(t, []uint16{4, 6, 0x42}, []uint16{uint16(w.Source()), uint16(w.Recovery()), w.ID()})
	require.Equal(t, "flags S source 4 recovery 6 id 0x0042", w.String())
}

func TestText(t *testing.T) {
	scsw := SCSW(mustHex("00c24017000112e80e400014"))
	for _, tt := range []struct{ got, want string }{
		{(ChainData | SuppressLength).String(), "CD|SLI"},
		{Flags(0).String(), "0"},
		{MIDAWFlags(0x81).String(), "LAST|0x1"},
		{(Ended | UnitCheck).String(), "CE|DE|UC"},
		{(PCI | IncorrectLength).String(), "PCI|IL"},
		{(StartFunction | PrimaryStatus | StatusPending | 0x8000).String(), "start|primary|pending|0x8000"},
		{(ORBFormat1 | ORBPrefetch | 0x2).String(), "F|P|0x2"},
		{(SCSWPrefetch | 0x8000).String(), "P|0x8000"},
		{(PMCWEnabled | PMCWConcurrentSense).String(), "E|S"},
		{ERW(0).WithSense(4).String(), "SENSE|0x40000"},
		{(CommandReject | SenseBit7).String(), "REJECT|0x1"},
		{(NoRecordFound | FileProtected).String(), "NOTFOUND|PROTECTED"},
		{CC2.String(), "cc 2"},
		{NOP.String(), "NOP"}, {TIC.String(), "TIC"}, {BasicSense.String(), "SENSE"}, {SenseID.String(), "SENSE ID"},
		{Command(0x06).String(), "read 0x06"}, {Command(0x10).String(), "invalid 0x10"}, {Command(0x0C).String(), "read backward 0x0c"},
		{Class(9).String(), "class 9"},
		{CCW{Command: 0x86, Flags: ChainCommand | Indirect, Count: 4096, Addr: 0x2010}.String(), "read 0x86 CC|IDA count 4096 addr 0x2010"},
		{IDAW1(0x1000).String(), "0x1000"}, {IDAW2(1 << 40).String(), "0x10000000000"},
		{MIDAW{Flags: MIDAWLast, Count: 8, Addr: 0x3000}.String(), "0x3000 count 8 LAST"},
		{ORB{Raw: [32]byte{3: 1, 5: 0xC0, 6: 0xFF, 10: 0x20}}.String(), "param 0x1 key 0 flags F|P lpm 0xff program 0x2000"},
		{scsw.String(), "key 0 flags F|P|E cc 0 control start|alert|primary|secondary|pending ccw 0x112e8 device CE|DE|UC subchannel IL count 20"},
		{Sense{0x80, 0x08}.String(), "REJECT NOTFOUND 80080000000000000000000000000000000000000000000000000000000000" + "00"},
		{IRB{}.String(), "key 0 flags 0 cc 0 control 0 ccw 0x0 device 0 subchannel 0 count 0; subchannel 0x00000000 erw 0"},
		{SCHIB{PMCW: PMCW{5: 0x81, 7: 0x0C}}.PMCW.String(), "param 0x0 device 000c isc 0 flags E|V lpm 0x0 pim 0x0 pom 0x0 pam 0x0 lpum 0x0"},
	} {
		require.Equal(t, tt.want, tt.got)
	}
}

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// Oracle: encoding what was decoded gives the bytes that were decoded, for
// every pattern and every layout.
func FuzzRoundTrip(f *testing.F) {
	f.Add(make([]byte, 96))
	seed := make([]byte, 96)
	for i := range seed {
		seed[i] = ^byte(i)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		var raw [96]byte
		copy(raw[:], b)

		ccw := [8]byte(raw[:])
		require.Equal(t, ccw, DecodeCCW0(&ccw).Encode0(), "format 0: %x", ccw)
		require.Equal(t, ccw, DecodeCCW1(&ccw).Encode1(), "format 1: %x", ccw)
		i1 := [4]byte(raw[:])
		require.Equal(t, i1, DecodeIDAW1(&i1).Encode())
		require.Equal(t, i1, DecodeCRW(&i1).Encode())
		i2 := [8]byte(raw[:])
		require.Equal(t, i2, DecodeIDAW2(&i2).Encode())
		m := [16]byte(raw[:])
		require.Equal(t, m, DecodeMIDAW(&m).Encode())
		irb := DecodeIRB(&raw)
		require.Equal(t, raw, irb.Encode())
		sb := [52]byte(raw[:])
		schib := DecodeSCHIB(&sb)
		require.Equal(t, sb, schib.Encode())

		// Writing back every field that was read changes nothing.
		o := ORB{Raw: [32]byte(raw[:])}
		p := o
		p.SetParam(o.Param())
		p.SetKey(o.Key())
		p.SetLPM(o.LPM())
		p.SetFlags(o.Flags())
		p.SetProgram(o.Program())
		require.Equal(t, o, p)
		s, w := schib.SCSW, schib.SCSW
		w.SetKey(s.Key())
		w.SetDeferredCC(s.DeferredCC())
		w.SetFlags(s.Flags())
		w.SetControl(s.Control())
		w.SetCCWAddr(s.CCWAddr())
		w.SetDevice(s.Device())
		w.SetSubchannel(s.Subchannel())
		w.SetCount(s.Count())
		require.Equal(t, s, w)
		q := schib.PMCW
		q.SetFlags(schib.PMCW.Flags())
		q.SetType(schib.PMCW.Type())
		q.SetISC(schib.PMCW.ISC())
		require.Equal(t, schib.PMCW, q)
		crw := DecodeCRW(&i1)
		require.Equal(t, crw, MakeCRW(crw, crw.Source(), crw.Recovery(), crw.ID()))
		_ = irb.String()
		_ = schib.String()
		_ = o.String()
	})
}
