package intremap

import (
	"math/bits"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/translate/addr"
)

// TestMessageLayout: rows of VT-d, "Interrupt Requests in Remappable Format",
// and of the compatibility format.
func TestMessageLayout(t *testing.T) {
	for _, row := range []struct {
		name   string
		m      Message
		format Format
		r      Remappable
		c      Compat
	}{
		{name: "address 0: no interrupt", m: Message{0, 0}, format: Outside},
		{name: "below the window", m: Message{0xfedf_ffff, 0}, format: Outside},
		{name: "above the window", m: Message{0xfef0_0000, 0}, format: Outside},
		{name: "bits 63:32 are not ignored", m: Message{0x1_fee0_0000, 0}, format: Outside},
		{name: "bits 63:32 are not ignored, bit 63", m: Message{0x8000_0000_fee0_0010, 0}, format: Outside},

		{name: "remappable: bit 4", m: Message{0xfee0_0010, 0}, format: RemappableFormat},
		{name: "handle[0]: bit 5", m: Message{0xfee0_0030, 0}, format: RemappableFormat, r: Remappable{Handle: 1}},
		{name: "handle[14]: bit 19", m: Message{0xfee8_0010, 0}, format: RemappableFormat, r: Remappable{Handle: 0x4000}},
		{name: "handle[15]: bit 2", m: Message{0xfee0_0014, 0}, format: RemappableFormat, r: Remappable{Handle: 0x8000}},
		{name: "SHV: bit 3", m: Message{0xfee0_0018, 0}, format: RemappableFormat, r: Remappable{SubhandleValid: true}},
		{name: "bits 1:0 ignored", m: Message{0xfee0_0013, 0}, format: RemappableFormat, r: Remappable{Low: 3}},
		{name: "data 15:0 subhandle", m: Message{0xfee0_0018, 0xabcd}, format: RemappableFormat, r: Remappable{SubhandleValid: true, Subhandle: 0xabcd}},
		{name: "data 31:16", m: Message{0xfee0_0010, 0x1234_0000}, format: RemappableFormat, r: Remappable{DataHigh: 0x1234}},

		{name: "compatibility: bit 4 clear", m: Message{0xfee0_0000, 0}, format: Compatibility},
		{name: "destination 19:12", m: Message{0xfeea_5000, 0}, format: Compatibility, c: Compat{Dest: 0xa5}},
		{name: "destination[14:8] in 11:5", m: Message{0xfee0_0fe0, 0}, format: Compatibility, c: Compat{Dest: 0x7f00}},
		{name: "RH: bit 3", m: Message{0xfee0_0008, 0}, format: Compatibility, c: Compat{Redirect: true}},
		{name: "DM: bit 2", m: Message{0xfee0_0004, 0}, format: Compatibility, c: Compat{Logical: true}},
		{name: "vector: data 7:0", m: Message{0xfee0_0000, 0x31}, format: Compatibility, c: Compat{Vector: 0x31}},
		{name: "delivery mode: data 10:8", m: Message{0xfee0_0000, 0x400}, format: Compatibility, c: Compat{Mode: NMI}},
		{name: "level assert: data 14", m: Message{0xfee0_0000, 0x4000}, format: Compatibility, c: Compat{Assert: true}},
		{name: "trigger mode: data 15", m: Message{0xfee0_0000, 0x8000}, format: Compatibility, c: Compat{Level: true}},
		{name: "reserved: data 13:11", m: Message{0xfee0_0000, 0x3800}, format: Compatibility, c: Compat{Reserved: 0x3800}},
	} {
		t.Run(row.name, func(t *testing.T) {
			require.Equal(t, row.format, row.m.Format())
			switch row.format {
			case RemappableFormat:
				require.Equal(t, row.r, row.m.Remappable())
				require.Equal(t, row.m, row.r.Message())
			case Compatibility:
				require.Equal(t, row.c, row.m.Compat())
				require.Equal(t, row.m, row.c.Message())
			}
		})
	}
}

// TestIndex: the index is handle + subhandle, in more than 16 bits (QEMU adds
// in 16 bits and wraps; VT-d has it exceed the table).
func TestIndex(t *testing.T) {
	require.EqualValues(t, 7, Remappable{Handle: 7, Subhandle: 9}.Index(), "no SHV: no subhandle")
	require.EqualValues(t, 16, Remappable{Handle: 7, SubhandleValid: true, Subhandle: 9}.Index())
	require.EqualValues(t, 0x1fffe, Remappable{Handle: 0xffff, SubhandleValid: true, Subhandle: 0xffff}.Index())
}

// irteFields is the layout of the IRTE: struct irte of Linux
// include/linux/dmar.h, field by field.
var irteFields = []struct {
	name     string
	at, n    int
	remapped func(*Remapped) // sets every bit of the field; nil: reserved
	posted   func(*Posted)
}{
	{"P", 0, 1, func(r *Remapped) { r.Present = true }, func(p *Posted) { p.Present = true }},
	{"FPD", 1, 1, func(r *Remapped) { r.FaultsDisabled = true }, func(p *Posted) { p.FaultsDisabled = true }},
	{"DM", 2, 1, func(r *Remapped) { r.Logical = true }, nil},
	{"RH", 3, 1, func(r *Remapped) { r.Redirect = true }, nil},
	{"TM", 4, 1, func(r *Remapped) { r.Level = true }, nil},
	{"DLM", 5, 3, func(r *Remapped) { r.Mode = 7 }, nil},
	{"AVAIL", 8, 4, func(r *Remapped) { r.Avail = 0xf }, func(p *Posted) { p.Avail = 0xf }},
	{"13:12", 12, 2, nil, nil},
	{"URG", 14, 1, nil, func(p *Posted) { p.Urgent = true }},
	{"V", 16, 8, func(r *Remapped) { r.Vector = 0xff }, func(p *Posted) { p.Vector = 0xff }},
	{"31:24", 24, 8, nil, nil},
	{"SID", 64, 16, func(r *Remapped) { r.Source.SID = 0xffff }, func(p *Posted) { p.Source.SID = 0xffff }},
	{"SQ", 80, 2, func(r *Remapped) { r.Source.SQ = 3 }, func(p *Posted) { p.Source.SQ = 3 }},
	{"SVT", 82, 2, func(r *Remapped) { r.Source.SVT = 3 }, func(p *Posted) { p.Source.SVT = 3 }},
	{"95:84", 84, 12, nil, nil},
	// These overlap between the forms.
	{"DST", 32, 32, func(r *Remapped) { r.Dest = 0xffff_ffff }, func(*Posted) {}},
	{"127:96", 96, 32, nil, func(*Posted) {}},
	{"37:32", 32, 6, func(*Remapped) {}, nil},
	{"PDA low", 38, 26, func(*Remapped) {}, func(p *Posted) { p.Descriptor = 0xffff_ffc0 }},
	{"PDA high", 96, 32, func(*Remapped) {}, func(p *Posted) { p.Descriptor = 0xffff_ffff << 32 }},
}

func mask(at, n int) IRTE {
	var e IRTE
	for i := at; i < at+n; i++ {
		if i < 64 {
			e.Lo |= 1 << i
		} else {
			e.Hi |= 1 << (i - 64)
		}
	}
	return e
}

func TestIRTELayout(t *testing.T) {
	var remapped, posted IRTE // bits seen in fields
	for _, f := range irteFields {
		m := mask(f.at, f.n)
		if f.remapped != nil {
			var r Remapped
			f.remapped(&r)
			if got := r.IRTE(); got != (IRTE{}) {
				require.Equal(t, m, got, "remapped %s", f.name)
				require.Zero(t, remapped.Lo&m.Lo|remapped.Hi&m.Hi, "%s overlaps", f.name)
				remapped = IRTE{remapped.Lo | m.Lo, remapped.Hi | m.Hi}
				require.Equal(t, r, m.Remapped())
			}
		}
		if f.posted != nil {
			var p Posted
			f.posted(&p)
			if got := p.IRTE(); got != (IRTE{Lo: irteIM}) {
				require.Equal(t, IRTE{m.Lo | irteIM, m.Hi}, got, "posted %s", f.name)
				require.Zero(t, posted.Lo&m.Lo|posted.Hi&m.Hi, "%s overlaps", f.name)
				posted = IRTE{posted.Lo | m.Lo, posted.Hi | m.Hi}
				require.Equal(t, p, m.Posted())
			}
		}
	}
	all := IRTE{^uint64(0), ^uint64(0)}
	require.Equal(t, all, IRTE{remapped.Lo | reservedRemapped.Lo | irteIM, remapped.Hi | reservedRemapped.Hi})
	require.Zero(t, remapped.Lo&reservedRemapped.Lo|remapped.Hi&reservedRemapped.Hi)
	require.Equal(t, all, IRTE{posted.Lo | reservedPosted.Lo | irteIM, posted.Hi | reservedPosted.Hi})
	require.Zero(t, posted.Lo&reservedPosted.Lo|posted.Hi&reservedPosted.Hi)
	// Bits 11:8 are AVAIL, 44 reserved bits above SVT, as Linux counts.
	require.Equal(t, 44, bits.OnesCount64(reservedRemapped.Hi))
	require.Equal(t, 14+8, bits.OnesCount64(reservedPosted.Lo>>24)+bits.OnesCount64(reservedPosted.Lo&0xffffff))
}

// TestReservedBits: every reserved bit of a present entry is refused, alone,
// and none of an entry that is not present.
func TestReservedBits(t *testing.T) {
	for i := range 128 {
		m := mask(i, 1)
		for _, form := range []struct {
			e        IRTE
			eim      bool
			reserved bool
		}{
			{IRTE{Lo: irteP}, true, reservedRemapped.Lo&m.Lo|reservedRemapped.Hi&m.Hi != 0},
			{IRTE{Lo: irteP}, false, reservedRemapped.Lo&m.Lo|reservedRemapped.Hi&m.Hi != 0 || i >= 32 && i < 40 || i >= 48 && i < 64},
			{IRTE{Lo: irteP | irteIM}, true, reservedPosted.Lo&m.Lo|reservedPosted.Hi&m.Hi != 0},
		} {
			e := IRTE{form.e.Lo | m.Lo, form.e.Hi | m.Hi}
			if i == 15 {
				continue // IM is the form
			}
			require.Equal(t, form.reserved, e.Validate(form.eim) != nil, "bit %d of %v, eim %v", i, form.e, form.eim)
			e.Lo &^= irteP
			if i != 0 {
				require.NoError(t, e.Validate(form.eim), "not present")
			}
		}
	}
	for mode := range DeliveryMode(8) {
		e := Remapped{Common: Common{Present: true}, Mode: mode}.IRTE()
		require.Equal(t, mode == 3 || mode == 6, e.Validate(true) != nil, "%v", mode)
	}
	require.Error(t, Remapped{Common: Common{Present: true, Source: Verification{SVT: 3}}}.IRTE().Validate(true))
}

// TestSourceVerification: VT-d, "IRTE", fields SVT, SQ, SID; Linux SVT_* and
// SQ_*.
func TestSourceVerification(t *testing.T) {
	for _, row := range []struct {
		name  string
		v     Verification
		s     SourceID
		admit bool
	}{
		{"SVT 0: any", Verification{SID: 0x1234}, 0xffff, true},
		{"SVT 1, SQ 0: equal", Verification{SID: 0x1234, SVT: SVTSource}, 0x1234, true},
		{"SVT 1, SQ 0: bit 0", Verification{SID: 0x1234, SVT: SVTSource}, 0x1235, false},
		{"SVT 1, SQ 0: bit 15", Verification{SID: 0x1234, SVT: SVTSource}, 0x9234, false},
		{"SVT 1, SQ 1: bit 2 ignored", Verification{SID: 0x1234, SQ: SQIgnore1, SVT: SVTSource}, 0x1230, true},
		{"SVT 1, SQ 1: bit 1 not", Verification{SID: 0x1234, SQ: SQIgnore1, SVT: SVTSource}, 0x1236, false},
		{"SVT 1, SQ 2: bits 2:1 ignored", Verification{SID: 0x1234, SQ: SQIgnore2, SVT: SVTSource}, 0x1232, true},
		{"SVT 1, SQ 2: bit 0 not", Verification{SID: 0x1234, SQ: SQIgnore2, SVT: SVTSource}, 0x1235, false},
		{"SVT 1, SQ 3: bits 2:0 ignored", Verification{SID: 0x1234, SQ: SQIgnore3, SVT: SVTSource}, 0x1233, true},
		{"SVT 1, SQ 3: bit 3 not", Verification{SID: 0x1234, SQ: SQIgnore3, SVT: SVTSource}, 0x123c, false},
		{"SVT 2: start bus", OnlyBuses(3, 5), 0x03ff, true},
		{"SVT 2: end bus", OnlyBuses(3, 5), 0x0500, true},
		{"SVT 2: below", OnlyBuses(3, 5), 0x02ff, false},
		{"SVT 2: above", OnlyBuses(3, 5), 0x0600, false},
		{"SVT 2: start above end admits none", OnlyBuses(5, 3), 0x0400, false},
		{"SVT 3: reserved, fails", Verification{SVT: 3}, 0, false},
	} {
		require.Equal(t, row.admit, row.v.Admits(row.s), row.name)
	}
	require.Equal(t, OnlySource(7), Verification{SID: 7, SQ: SQAll, SVT: SVTSource})
	require.Equal(t, "3a:1f.5", SourceID(0x3afd).String())
}

// TestDescriptorLayout: VT-d, "Posted Interrupt Descriptor"; struct pi_desc.
func TestDescriptorLayout(t *testing.T) {
	var d Descriptor
	d.Notify(0xf2, 0x0000_ab00)
	d.Suppress(true)
	require.Equal(t, uint64(0x0000_ab00_00f2_0002), le(d[4].Load()), "NV in 279:272, NDST in 319:288, SN is bit 257")
	d.Suppress(false)
	for _, v := range []uint8{0, 63, 64, 255} {
		_, notify, why := d.post(v, false, true)
		require.Zero(t, why)
		require.Equal(t, v == 0, notify, "one notification until ON is cleared")
	}
	require.True(t, d.Outstanding())
	require.Equal(t, uint64(0x0000_ab00_00f2_0001), le(d[4].Load()), "ON is bit 256")
	require.Equal(t, [4]uint64{1<<63 | 1, 1, 0, 1 << 63}, d.Take())
	require.False(t, d.Outstanding())
	require.Equal(t, [4]uint64{}, d.Take())

	for i := 256; i < 512; i++ {
		reserved := i >= 258 && i <= 271 || i >= 280 && i <= 287 || i >= 320
		for _, eim := range []bool{true, false} {
			var d Descriptor
			d[i/64].Store(le(1 << (i % 64)))
			_, _, why := d.post(1, true, eim)
			want := reserved || !eim && (i >= 288 && i < 296 || i >= 304 && i < 320)
			require.Equal(t, want, why == ReasonDescriptorReserved, "bit %d, eim %v", i, eim)
			require.Equal(t, want, d.Take() == [4]uint64{}, "refused: nothing posted")
		}
	}
}

func TestDescriptorAt(t *testing.T) {
	buf := make([]byte, 3*DescriptorSize)
	for i := range DescriptorSize {
		d, err := DescriptorAt(buf[i:])
		if err != nil {
			continue
		}
		d[4].Store(le(1))
		require.EqualValues(t, 1, buf[i+32], "little-endian in memory")
		_, err = DescriptorAt(buf[i+8:])
		require.ErrorContains(t, err, "misaligned")
		_, err = DescriptorAt(buf[i : i+63])
		require.Error(t, err)
		return
	}
	t.Fatal("no offset is aligned")
}

func TestPostedAddress(t *testing.T) {
	p := Posted{Descriptor: 0x1234_5678_9abc_de00 | 0x3f}
	require.Equal(t, addr.HPA(0x1234_5678_9abc_de00), p.IRTE().Posted().Descriptor)
}
