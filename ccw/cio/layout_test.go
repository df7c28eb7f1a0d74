package cio

import (
	"encoding/binary"
	"math/bits"
	"testing"

	"github.com/stretchr/testify/require"
)

// A layout is one word with its fields: they must not overlap, and with what
// is reserved they must make up the word.
func TestLayoutsCoverTheirWord(t *testing.T) {
	for _, tt := range []struct {
		name  string
		width int
		masks []uint64
	}{
		{"CCW flags", 8, of(ChainData, ChainCommand, SuppressLength, Skip, ProgramControlled, Indirect, Suspend, Modified)},
		{"device status", 8, of(Attention, StatusModifier, ControlUnitEnd, Busy, ChannelEnd, DeviceEnd, UnitCheck, UnitException)},
		{"subchannel status", 8, of(PCI, IncorrectLength, ProgramCheck, ProtectionCheck, DataCheck, ControlCheck, InterfaceCheck, ChainingCheck)},
		{"MIDAW flags", 8, of(MIDAWLast, MIDAWSkip, MIDAWInterrupt, midawReserved)},
		{"ORB word 1", 32, append(of(orbKeyMask, orbLPMMask, orbReserved), of(
			ORBSuspend, ORBStreaming, ORBModification, ORBSync, ORBFormat1, ORBPrefetch, ORBInitialStatus, ORBAddressLimit,
			ORBSuppressSuspend, ORBTransport, ORBIDAW2, ORBBlock2K, ORBSuppressIL, ORBMIDAW, ORBExtended)...)},
		{"SCSW word 0, high halfword", 32, append(of(scswKeyMask, scswCCMask, uint32(0xFFFF)), shifted(16, of(
			SCSWSuspend, SCSWLogout, SCSWFormat1, SCSWPrefetch, SCSWInitialStatus, SCSWAddressLimit,
			SCSWSuppressSuspend, SCSWZero, SCSWExtended, SCSWNotOperational))...)},
		{"SCSW word 0, control", 16, append(of(StartFunction, HaltFunction, ClearFunction,
			ResumePending, StartPending, HaltPending, ClearPending, SubchannelActive, DeviceActive, Suspended,
			AlertStatus, IntermediateStatus, PrimaryStatus, SecondaryStatus, StatusPending), 0x8000)},
		{"SCSW control, masks", 16, append(of(FunctionMask, ActivityMask, StatusMask), 0x8000)},
		{"PMCW word 1", 32, append(of(pmcwISC, pmcwLM, pmcwMM, pmcwReserved1, uint32(0xFFFF)),
			of(PMCWQDIO, PMCWEnabled, PMCWMultipath, PMCWTiming, PMCWValid)...)},
		{"PMCW word 6", 32, append(of(pmcwType, pmcwReserved6), of(PMCWMeasureFormat, PMCWMeasureExtended, PMCWConcurrentSense)...)},
		{"ERW", 32, append(of(ERWRequestLogging, ERWExtendedLogout, ERWAuthorization, ERWPathVerification,
			ERWPathTimeout, ERWFailingAddress, ERWConcurrentSense, erwCountMask), 0x80C0_FFFF)},
		{"CRW", 32, append(of(CRWSolicited, CRWOverflow, CRWChained, CRWAncillary), of(crwRSC, crwERC, uint32(0x8040_FFFF))...)},
		{"sense byte 0", 8, of(CommandReject, InterventionRequired, BusOutCheck, EquipmentCheck, DataCheck0, Overrun, SenseBit6, SenseBit7)},
		{"sense byte 1", 8, of(PermanentError, InvalidTrackFormat, EndOfCylinder, OperatorMessage, NoRecordFound, FileProtected, WriteInhibited, Imprecise)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var seen uint64
			for _, m := range tt.masks {
				require.NotZero(t, m)
				require.Zero(t, seen&m, "%#x is in two fields", seen&m)
				seen |= m
			}
			require.Equal(t, uint64(1)<<tt.width-1, seen, "bits without a field")
		})
	}
}

func of[T ~uint8 | ~uint16 | ~uint32](vs ...T) (out []uint64) {
	for _, v := range vs {
		out = append(out, uint64(v))
	}
	return out
}

func shifted(n int, vs []uint64) []uint64 {
	for i := range vs {
		vs[i] <<= n
	}
	return vs
}

// Every setter changes its own bits and no other, and its getter reads them.
func TestFieldsKeepToThemselves(t *testing.T) {
	type field struct {
		name string
		off  int    // byte at which the field's bits begin
		mask uint64 // in the 8 bytes from off, big-endian
		set  func(v uint64)
		get  func() uint64
	}
	flag := func(set func(bool), get func() bool) (func(uint64), func() uint64) {
		return func(v uint64) { set(v != 0) }, func() uint64 {
			if get() {
				return 1
			}
			return 0
		}
	}
	run := func(t *testing.T, raw []byte, fields []field) {
		for _, f := range fields {
			t.Run(f.name, func(t *testing.T) {
				width := bits.OnesCount64(f.mask)
				for _, ground := range []byte{0x00, 0xFF} {
					for _, v := range []uint64{0, 1, 1<<width - 1, 0xA5A5_A5A5_A5A5_A5A5 & (1<<width - 1)} {
						for i := range raw {
							raw[i] = ground
						}
						f.set(v)
						require.Equal(t, v, f.get())
						var want [128]byte
						for i := range want {
							want[i] = ground
						}
						w := binary.BigEndian.Uint64(want[f.off:])
						w = w&^f.mask | v<<bits.TrailingZeros64(f.mask)&f.mask
						binary.BigEndian.PutUint64(want[f.off:], w)
						require.Equal(t, want[:len(raw)], raw)
					}
				}
			})
		}
	}
	bit := func(name string, off int, mask uint64, set func(bool), get func() bool) field {
		s, g := flag(set, get)
		return field{name, off, mask, s, g}
	}

	t.Run("ORB", func(t *testing.T) {
		var o ORB
		run(t, o.Raw[:], []field{
			{"param", 0, 0xFFFF_FFFF << 32, func(v uint64) { o.SetParam(uint32(v)) }, func() uint64 { return uint64(o.Param()) }},
			{"key", 4, 0xF << 60, func(v uint64) { o.SetKey(uint8(v)) }, func() uint64 { return uint64(o.Key()) }},
			{"lpm", 4, 0xFF << 40, func(v uint64) { o.SetLPM(uint8(v)) }, func() uint64 { return uint64(o.LPM()) }},
			{"program", 8, 0xFFFF_FFFF << 32, func(v uint64) { o.SetProgram(uint32(v)) }, func() uint64 { return uint64(o.Program()) }},
			bit("S", 4, uint64(ORBSuspend)<<32, o.SetSuspend, o.Suspend),
			bit("C", 4, uint64(ORBStreaming)<<32, o.SetStreaming, o.Streaming),
			bit("M", 4, uint64(ORBModification)<<32, o.SetModification, o.Modification),
			bit("Y", 4, uint64(ORBSync)<<32, o.SetSync, o.Sync),
			bit("F", 4, uint64(ORBFormat1)<<32, o.SetFormat1, o.Format1),
			bit("P", 4, uint64(ORBPrefetch)<<32, o.SetPrefetch, o.Prefetch),
			bit("I", 4, uint64(ORBInitialStatus)<<32, o.SetInitialStatus, o.InitialStatus),
			bit("A", 4, uint64(ORBAddressLimit)<<32, o.SetAddressLimit, o.AddressLimit),
			bit("U", 4, uint64(ORBSuppressSuspend)<<32, o.SetSuppressSuspend, o.SuppressSuspend),
			bit("B", 4, uint64(ORBTransport)<<32, o.SetTransport, o.Transport),
			bit("H", 4, uint64(ORBIDAW2)<<32, o.SetIDAW2, o.IDAW2),
			bit("T", 4, uint64(ORBBlock2K)<<32, o.SetBlock2K, o.Block2K),
			bit("L", 4, uint64(ORBSuppressIL)<<32, o.SetSuppressIL, o.SuppressIL),
			bit("D", 4, uint64(ORBMIDAW)<<32, o.SetMIDAW, o.MIDAW),
			bit("X", 4, uint64(ORBExtended)<<32, o.SetExtended, o.Extended),
		})
	})
	t.Run("SCSW", func(t *testing.T) {
		var s SCSW
		run(t, s[:], []field{
			{"key", 0, 0xF << 60, func(v uint64) { s.SetKey(uint8(v)) }, func() uint64 { return uint64(s.Key()) }},
			{"cc", 0, 0x3 << 56, func(v uint64) { s.SetDeferredCC(CC(v)) }, func() uint64 { return uint64(s.DeferredCC()) }},
			{"control", 0, 0xFFFF << 32, func(v uint64) { s.SetControl(Control(v)) }, func() uint64 { return uint64(s.Control()) }},
			{"ccw", 4, 0xFFFF_FFFF << 32, func(v uint64) { s.SetCCWAddr(uint32(v)) }, func() uint64 { return uint64(s.CCWAddr()) }},
			{"device", 4, 0xFF << 24, func(v uint64) { s.SetDevice(DeviceStatus(v)) }, func() uint64 { return uint64(s.Device()) }},
			{"subchannel", 4, 0xFF << 16, func(v uint64) { s.SetSubchannel(SubchannelStatus(v)) }, func() uint64 { return uint64(s.Subchannel()) }},
			{"count", 4, 0xFFFF, func(v uint64) { s.SetCount(uint16(v)) }, func() uint64 { return uint64(s.Count()) }},
		})
		s = SCSW{}
		s.SetFlags(0xFFFF)
		require.Equal(t, SCSW{0x0C, 0xFF}, s)
		require.Equal(t, SCSWFlags(0x0CFF), s.Flags())
		s.SetControl(0xFFFF)
		require.Equal(t, []Control{FunctionMask, ActivityMask, StatusMask}, []Control{s.FC(), s.AC(), s.SC()})
	})
	t.Run("PMCW", func(t *testing.T) {
		var p PMCW
		fields := []field{
			{"param", 0, 0xFFFF_FFFF << 32, func(v uint64) { p.SetParam(uint32(v)) }, func() uint64 { return uint64(p.Param()) }},
			{"isc", 0, uint64(pmcwISC), func(v uint64) { p.SetISC(uint8(v)) }, func() uint64 { return uint64(p.ISC()) }},
			{"lm", 0, uint64(pmcwLM), func(v uint64) { p.SetLimitMode(uint8(v)) }, func() uint64 { return uint64(p.LimitMode()) }},
			{"mm", 0, uint64(pmcwMM), func(v uint64) { p.SetMeasureMode(uint8(v)) }, func() uint64 { return uint64(p.MeasureMode()) }},
			{"devno", 0, 0xFFFF, func(v uint64) { p.SetDeviceNumber(uint16(v)) }, func() uint64 { return uint64(p.DeviceNumber()) }},
			{"lpm", 8, 0xFF << 56, func(v uint64) { p.SetLPM(uint8(v)) }, func() uint64 { return uint64(p.LPM()) }},
			{"pnom", 8, 0xFF << 48, func(v uint64) { p.SetPNOM(uint8(v)) }, func() uint64 { return uint64(p.PNOM()) }},
			{"lpum", 8, 0xFF << 40, func(v uint64) { p.SetLPUM(uint8(v)) }, func() uint64 { return uint64(p.LPUM()) }},
			{"pim", 8, 0xFF << 32, func(v uint64) { p.SetPIM(uint8(v)) }, func() uint64 { return uint64(p.PIM()) }},
			{"mbi", 8, 0xFFFF << 16, func(v uint64) { p.SetMBI(uint16(v)) }, func() uint64 { return uint64(p.MBI()) }},
			{"pom", 8, 0xFF << 8, func(v uint64) { p.SetPOM(uint8(v)) }, func() uint64 { return uint64(p.POM()) }},
			{"pam", 8, 0xFF, func(v uint64) { p.SetPAM(uint8(v)) }, func() uint64 { return uint64(p.PAM()) }},
			{"type", 20, uint64(pmcwType), func(v uint64) { p.SetType(SubchannelType(v)) }, func() uint64 { return uint64(p.Type()) }},
		}
		for i := range 8 {
			fields = append(fields, field{"chpid", 16, 0xFF << (56 - 8*i),
				func(v uint64) { p.SetCHPID(i, uint8(v)) }, func() uint64 { return uint64(p.CHPID(i)) }})
		}
		run(t, p[:], fields)
		p = PMCW{}
		p.SetFlags(^PMCWFlags(0))
		require.Equal(t, PMCW{4: 0x80, 5: 0x87, 27: 0x07}, p)
		require.False(t, p.Reserved())
		require.True(t, (&PMCW{4: 0x40}).Reserved())
		require.True(t, (&PMCW{24: 0x01}).Reserved())
	})
	t.Run("ESW", func(t *testing.T) {
		var e ESW
		run(t, e[:], []field{
			{"lpum", 0, 0xFF << 48, func(v uint64) { e.SetLPUM(uint8(v)) }, func() uint64 { return uint64(e.LPUM()) }},
			{"subchannel", 0, 0xFFFF_FFFF << 32, func(v uint64) { e.SetSubchannel(uint32(v)) }, func() uint64 { return uint64(e.Subchannel()) }},
			{"erw", 0, 0xFFFF_FFFF, func(v uint64) { e.SetERW(ERW(v)) }, func() uint64 { return uint64(e.ERW()) }},
			{"fsa", 8, ^uint64(0) >> 1 << 1, func(v uint64) { e.SetFailingAddress(v << 1) }, func() uint64 { return e.FailingAddress() >> 1 }},
			{"secondary", 12, 0xFFFF_FFFF, func(v uint64) { e.SetSecondaryCCW(uint32(v)) }, func() uint64 { return uint64(e.SecondaryCCW()) }},
		}[:3])
		e = ESW{}
		e.SetFailingAddress(0x0102_0304_0506_0708)
		e.SetSecondaryCCW(0x1122_3344)
		require.Equal(t, ESW{8: 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x22, 0x33, 0x44}, e)
		require.Equal(t, uint64(0x0102_0304_0506_0708), e.FailingAddress())
		require.Equal(t, uint32(0x1122_3344), e.SecondaryCCW())
	})
	t.Run("sense", func(t *testing.T) {
		var s Sense
		run(t, s[:], []field{
			{"byte 0", 0, 0xFF << 56, func(v uint64) { s.SetByte0(Sense0(v)) }, func() uint64 { return uint64(s.Byte0()) }},
			{"byte 1", 0, 0xFF << 48, func(v uint64) { s.SetByte1(Sense1(v)) }, func() uint64 { return uint64(s.Byte1()) }},
			{"byte 7", 0, 0xFF, func(v uint64) { s.SetFormatMessage(uint8(v>>4), uint8(v&0xF)) },
				func() uint64 { return uint64(s.Format())<<4 | uint64(s.Message()) }},
			bit("24 bytes", 24, 0x80<<32, s.SetCompatible24, s.Compatible24),
		})
	})
}
