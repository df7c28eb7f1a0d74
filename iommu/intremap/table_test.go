package intremap_test

import (
	"math"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu/intremap"
	"github.com/softmdev/softmdev/mdev/errs"
)

// TestFaultReasons: each way to be refused, in the order of the unit's checks.
// VT-d, "Fault Reason Encodings". Every row is delivered nowhere, is counted,
// and stands in the log with source, VM, message, entry and reason, unless FPD
// of the writer's own entry says no.
func TestFaultReasons(t *testing.T) {
	fpd := func(e intremap.IRTE) intremap.IRTE { e.Lo |= 2; return e }
	posted := func(pda uint64) intremap.IRTE {
		p := intremap.Posted{Common: present(9)}.IRTE()
		p.Lo |= pda >> 6 << 38
		return p
	}
	other := intremap.Requester{Source: source ^ 8, VM: vmA}
	const none = intremap.NoIndex
	for _, row := range []struct {
		name   string
		entry  intremap.IRTE
		from   intremap.Requester
		m      func(own int) intremap.Message
		reason intremap.Reason
		index  int // relative to the entry, or none
		silent bool
		errno  syscall.Errno
	}{
		{name: "20h: reserved data bits with SHV", entry: remapped(1, 0), from: devA, reason: 0x20, index: none, errno: syscall.EINVAL,
			m: func(i int) intremap.Message { m := handle(i); m.Addr |= 8; m.Data = 1 << 16; return m }},
		{name: "21h: handle outside", from: devA, reason: 0x21, index: 8, errno: syscall.ENOENT,
			m: func(i int) intremap.Message { return handle(i + 8) }},
		{name: "21h: subhandle leads outside", entry: remapped(1, 0), from: devA, reason: 0x21, index: 8, errno: syscall.ENOENT,
			m: func(i int) intremap.Message { m := handle(i); m.Addr |= 8; m.Data = 8; return m }},
		{name: "21h: handle and subhandle do not wrap", entry: remapped(1, 0), from: devA, reason: 0x21, index: 0x10000, errno: syscall.ENOENT,
			m: func(i int) intremap.Message { m := handle(0xffff); m.Addr |= 8; m.Data = uint32(i) + 1; return m }},
		{name: "22h: free index", entry: remapped(1, 0), from: devA, reason: 0x22, index: 2, errno: syscall.ENOENT,
			m: func(i int) intremap.Message { return handle(i + 2) }},
		{name: "22h: own entry, never set", from: devA, reason: 0x22, errno: syscall.ENOENT},
		{name: "22h: P clear, all else fine", entry: func() intremap.IRTE { e := remapped(1, 0); e.Lo &^= 1; return e }(), from: devA, reason: 0x22, errno: syscall.ENOENT},
		{name: "22h: P clear, FPD", entry: intremap.IRTE{Lo: 2}, from: devA, reason: 0x22, silent: true, errno: syscall.ENOENT},
		{name: "24h: reserved bit", entry: func() intremap.IRTE { e := remapped(1, 0); e.Hi |= 1 << 63; return e }(), from: devA, reason: 0x24, errno: syscall.EINVAL},
		{name: "24h: reserved bit, FPD", entry: fpd(intremap.IRTE{Lo: 1 | 1<<12}), from: devA, reason: 0x24, silent: true, errno: syscall.EINVAL},
		{name: "24h: destination bits without EIM", entry: remapped(1, 1), from: devA, reason: 0x24, errno: syscall.EINVAL},
		{name: "24h before 26h", entry: func() intremap.IRTE { e := remapped(1, 1); return e }(), from: other, reason: 0x24, errno: syscall.EINVAL},
		{name: "25h: compatibility format blocked", from: devA, reason: 0x25, index: none, errno: syscall.EPERM,
			m: func(int) intremap.Message { return intremap.Compat{Vector: 0x31}.Message() }},
		{name: "26h: source", entry: remapped(1, 0), from: other, reason: 0x26, errno: syscall.EPERM},
		{name: "26h: source, FPD", entry: fpd(remapped(1, 0)), from: other, reason: 0x26, silent: true, errno: syscall.EPERM},
		{name: "26h: reserved SVT", entry: intremap.IRTE{Lo: 1, Hi: 3 << 18}, from: devA, reason: 0x26, errno: syscall.EPERM},
		{name: "27h: descriptor out of reach", entry: posted(0x4040), from: devA, reason: 0x27, errno: syscall.EFAULT},
		{name: "27h: descriptor out of reach, FPD", entry: fpd(posted(0x4040)), from: devA, reason: 0x27, silent: true, errno: syscall.EFAULT},
		{name: "28h: reserved bits in the descriptor", entry: posted(0x4000), from: devA, reason: 0x28, errno: syscall.EINVAL},
		{name: "e0h: foreign", entry: remapped(1, 0), from: devB, reason: 0xe0, errno: syscall.EPERM},
		{name: "e0h: foreign, entry never set", from: devB, reason: 0xe0, errno: syscall.EPERM},
		{name: "e0h: foreign before what is in the entry", entry: intremap.IRTE{Lo: 1 | 1<<12}, from: devB, reason: 0xe0, errno: syscall.EPERM},
		{name: "e0h: FPD of another VM's entry hides nothing", entry: fpd(remapped(1, 0)), from: devB, reason: 0xe0, errno: syscall.EPERM},
		{name: "e0h: nobody", entry: remapped(1, 0), from: intremap.Requester{Source: source}, reason: 0xe0, errno: syscall.EPERM},
		{name: "e1h: outside the window", from: devA, reason: 0xe1, index: none, errno: syscall.EINVAL,
			m: func(int) intremap.Message { return intremap.Message{Addr: 0xfef0_0010} }},
		{name: "e1h: the zero message", from: devA, reason: 0xe1, index: none, errno: syscall.EINVAL,
			m: func(int) intremap.Message { return intremap.Message{} }},
	} {
		t.Run(row.name, func(t *testing.T) {
			bad := new(intremap.Descriptor)
			bad[7].Store(1)
			table := newTable(t, &intremap.Config{Entries: 8, Memory: lines{0x4000: bad}})
			b := alloc(t, table, vmA, 2)
			var sink inbox
			require.NoError(t, b.Set(0, row.entry, &sink))
			m := handle(b.First())
			if row.m != nil {
				m = row.m(b.First())
			}
			index := b.First() + row.index
			if row.index == none {
				index = none
			}

			err := table.Write(row.from, m)
			require.Equal(t, row.reason, err)
			require.Equal(t, row.errno, errs.Errno(err))
			require.Empty(t, sink.take())
			require.EqualValues(t, 1, table.Refused(row.reason))
			require.EqualValues(t, 1, table.FaultCount())
			want := []intremap.Fault{{Seq: 1, Requester: row.from, Message: m, Index: index, Reason: row.reason}}
			if row.silent {
				want = []intremap.Fault{}
			}
			require.Equal(t, want, table.Faults())
		})
	}
}

// TestClosed: 23h, the table cannot be read.
func TestClosed(t *testing.T) {
	table := newTable(t, &intremap.Config{Entries: 4, Compatibility: true})
	b := alloc(t, table, vmA, 1)
	var sink inbox
	require.NoError(t, b.Set(0, remapped(1, 0), &sink))
	require.NoError(t, table.SetCompatibility(vmA, &sink))
	table.Close()
	table.Close()
	for _, r := range []intremap.Requester{devA, devB, {}} {
		require.Equal(t, intremap.ReasonTable, table.Write(r, b.Message(0)))
		require.Equal(t, intremap.ReasonCompatibility, table.Write(r, intremap.Compat{}.Message()))
	}
	require.Empty(t, sink.take())
	require.ErrorIs(t, b.Set(0, remapped(1, 0), &sink), errs.ErrGone)
	require.ErrorIs(t, table.SetCompatibility(vmA, &sink), errs.ErrGone)
	_, err := table.Alloc(vmA, 1, 0)
	require.ErrorIs(t, err, errs.ErrGone)
	b.Revoke(0)
	b.Free()
	require.Equal(t, intremap.ReasonTable, table.Write(devA, b.Message(0)))
}

func TestDelivered(t *testing.T) {
	for _, row := range []struct {
		name string
		eim  bool
		e    intremap.Remapped
		want intremap.Interrupt
	}{
		{"xAPIC: id in DST 15:8", false, intremap.Remapped{Common: present(0x31), Dest: intremap.Destination(0xab, false)},
			intremap.Interrupt{Vector: 0x31, Dest: 0xab}},
		{"EIM: id in all of DST", true, intremap.Remapped{Common: present(0x31), Dest: intremap.Destination(0xabcd_ef01, true)},
			intremap.Interrupt{Vector: 0x31, Dest: 0xabcd_ef01}},
		{"DM, RH, TM, DLM", false, intremap.Remapped{Common: present(0x40), Logical: true, Redirect: true, Level: true, Mode: intremap.LowestPriority},
			intremap.Interrupt{Vector: 0x40, Mode: intremap.LowestPriority, Level: true, Logical: true, Redirect: true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			table := newTable(t, &intremap.Config{Entries: 8, EIM: row.eim})
			b := alloc(t, table, vmA, 4)
			var sink inbox
			require.NoError(t, row.e.IRTE().Validate(row.eim))
			require.NoError(t, b.Set(3, row.e.IRTE(), &sink))
			require.Equal(t, row.e.IRTE(), b.IRTE(3))
			require.NoError(t, table.Write(devA, b.Message(3)))
			require.Equal(t, []intremap.Interrupt{row.want}, sink.take())
			// Multi-message MSI: one handle, the number of the message in the data.
			m := b.Message(0)
			m.Data = 3
			require.NoError(t, table.Write(devA, m))
			require.Equal(t, []intremap.Interrupt{row.want}, sink.take())
			// Without SHV the data are ignored, all 32 bits.
			m = handle(b.First() + 3)
			m.Data = 0xffff_ffff
			require.NoError(t, table.Write(devA, m))
			require.Equal(t, []intremap.Interrupt{row.want}, sink.take())
			require.Empty(t, table.Faults())
		})
	}
}

// TestLastHandle: handle[15] counts, in the largest table.
func TestLastHandle(t *testing.T) {
	table := newTable(t, nil)
	require.Equal(t, intremap.MaxEntries, table.Entries())
	b := alloc(t, table, vmA, intremap.MaxEntries)
	var sink inbox
	require.NoError(t, b.Set(0xffff, remapped(7, 0), &sink))
	require.Equal(t, intremap.Message{Addr: 0xfeef_fffc}, b.Message(0xffff))
	require.NoError(t, table.Write(devA, b.Message(0xffff)))
	require.Len(t, sink.take(), 1)
	require.Equal(t, intremap.ReasonNotPresent, table.Write(devA, b.Message(0x7fff)))
}

// TestStaleHandle: an index that another VM has now takes no message that was
// kept from before.
func TestStaleHandle(t *testing.T) {
	table := newTable(t, &intremap.Config{Entries: 1})
	var sinkA, sinkB inbox
	a := alloc(t, table, vmA, 1)
	require.NoError(t, a.Set(0, remapped(1, 0), &sinkA))
	kept := a.Message(0)
	a.Free()
	a.Free()
	require.Equal(t, intremap.ReasonNotPresent, table.Write(devA, kept))
	b := alloc(t, table, vmB, 1)
	require.NoError(t, b.Set(0, remapped(2, 0), &sinkB))
	require.Equal(t, kept, b.Message(0))
	require.Equal(t, intremap.ReasonForeign, table.Write(devA, kept))
	require.NoError(t, table.Write(devB, kept))
	require.Empty(t, sinkA.take())
	require.Len(t, sinkB.take(), 1)
	// The former owner's block is no way in, either.
	require.ErrorIs(t, a.Set(0, remapped(3, 0), &sinkA), errs.ErrGone)
	a.Revoke(0)
	require.Equal(t, intremap.IRTE{}, a.IRTE(0))
	require.NoError(t, table.Write(devB, kept))
}

// TestCompatibilityStaysInItsVM: a request that names its vector itself goes to
// the writer's own sink or nowhere.
func TestCompatibilityStaysInItsVM(t *testing.T) {
	table := newTable(t, &intremap.Config{Entries: 1, Compatibility: true})
	var sink inbox
	require.NoError(t, table.SetCompatibility(vmA, &sink))
	c := intremap.Compat{Dest: 5, Vector: 0x31, Mode: intremap.LowestPriority, Logical: true, Redirect: true, Level: true}
	require.NoError(t, table.Write(devA, c.Message()))
	require.Equal(t, []intremap.Interrupt{{Vector: 0x31, Mode: intremap.LowestPriority, Level: true, Logical: true, Redirect: true, Dest: 5}}, sink.take())
	require.Equal(t, intremap.ReasonCompatibility, table.Write(devB, c.Message()))
	require.NoError(t, table.SetCompatibility(vmA, nil))
	require.Equal(t, intremap.ReasonCompatibility, table.Write(devA, c.Message()))
	require.Empty(t, sink.take())
	require.ErrorIs(t, table.SetCompatibility(0, &sink), errs.ErrInvalid)

	// VT-d: extended interrupt mode blocks the format whatever CFI says.
	table = newTable(t, &intremap.Config{Entries: 1, Compatibility: true, EIM: true})
	require.ErrorIs(t, table.SetCompatibility(vmA, &sink), errs.ErrNotSupported)
	require.Equal(t, intremap.ReasonCompatibility, table.Write(devA, c.Message()))
}

// TestPosted: VT-d, "Interrupt Posting Hardware Operation".
func TestPosted(t *testing.T) {
	for _, row := range []struct {
		name    string
		urgent  bool
		prepare func(d *intremap.Descriptor)
		notify  bool
	}{
		{"ON clear, SN clear: notify", false, func(*intremap.Descriptor) {}, true},
		{"ON set: no second notification", false, func(d *intremap.Descriptor) { d[4].Or(1) }, false},
		{"ON set, urgent: nor then", true, func(d *intremap.Descriptor) { d[4].Or(1) }, false},
		{"SN set: posted only", false, func(d *intremap.Descriptor) { d.Suppress(true) }, false},
		{"SN set, urgent: notify", true, func(d *intremap.Descriptor) { d.Suppress(true) }, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := new(intremap.Descriptor)
			table := newTable(t, &intremap.Config{Entries: 4, EIM: true, Memory: lines{0x1_0000_4040: d}})
			b := alloc(t, table, vmA, 1)
			d.Notify(0xf2, 77)
			row.prepare(d)
			var sink inbox
			require.NoError(t, b.Set(0, intremap.Posted{Common: present(0x51), Urgent: row.urgent, Descriptor: 0x1_0000_4040}.IRTE(), &sink))
			require.NoError(t, table.Write(devA, b.Message(0)))
			var want []intremap.Interrupt
			if row.notify {
				want = []intremap.Interrupt{{Vector: 0xf2, Dest: 77}}
			}
			require.Equal(t, want, sink.take())
			require.Equal(t, [4]uint64{0, 1 << (0x51 - 64)}, d.Take())
			// After Revoke nothing is posted, either.
			b.Revoke(0)
			require.Equal(t, intremap.ReasonNotPresent, table.Write(devA, b.Message(0)))
			require.Equal(t, [4]uint64{}, d.Take())
			require.Empty(t, sink.take())
		})
	}
	// A unit without memory.
	table := newTable(t, &intremap.Config{Entries: 1})
	b := alloc(t, table, vmA, 1)
	require.NoError(t, b.Set(0, intremap.Posted{Common: present(1)}.IRTE(), new(inbox)))
	require.Equal(t, intremap.ReasonDescriptor, table.Write(devA, b.Message(0)))
}

func TestAlloc(t *testing.T) {
	table := newTable(t, &intremap.Config{Entries: 16, PerVM: 12})
	for _, bad := range []struct {
		vm       intremap.VMID
		n, align int
	}{{0, 1, 1}, {1, 0, 1}, {1, -1, 1}, {1, 1, 3}, {1, 1, -4}} {
		_, err := table.Alloc(bad.vm, bad.n, bad.align)
		require.ErrorIs(t, err, errs.ErrInvalid, "%+v", bad)
	}
	for _, full := range []struct{ n, align int }{{13, 1}, {math.MaxInt, 1}, {1, 32}, {1, 1 << 30}} {
		_, err := table.Alloc(vmA, full.n, full.align)
		require.ErrorIs(t, err, errs.ErrNoSpace, "%+v", full)
	}
	one := alloc(t, table, vmA, 1)
	require.Equal(t, 0, one.First())
	eight, err := table.Alloc(vmA, 8, 8)
	require.NoError(t, err)
	require.Equal(t, 8, eight.First())
	require.Equal(t, 8, eight.Len())
	require.Equal(t, vmA, eight.Owner())
	require.Equal(t, 9, table.Owned(vmA))
	_, err = table.Alloc(vmA, 4, 1)
	require.ErrorIs(t, err, errs.ErrNoSpace, "13 of 12")
	_, err = table.Alloc(vmB, 8, 1)
	require.ErrorIs(t, err, errs.ErrNoSpace, "7 in a row are free")
	seven := alloc(t, table, vmB, 7)
	require.Equal(t, 1, seven.First())
	one.Free()
	require.Equal(t, 8, table.Owned(vmA))
	eight.Free()
	require.Zero(t, table.Owned(vmA))
	// The index that was freed last comes last.
	require.Equal(t, 8, alloc(t, table, vmB, 1).First())
	require.Equal(t, 9, alloc(t, table, vmB, 1).First())

	require.Equal(t, intremap.Message{}, seven.Message(7))
	require.Equal(t, intremap.Message{}, seven.Message(-1))
	require.ErrorIs(t, seven.Set(7, remapped(1, 0), new(inbox)), errs.ErrInvalid)
	require.ErrorIs(t, seven.Set(-1, remapped(1, 0), new(inbox)), errs.ErrInvalid)
	require.ErrorIs(t, seven.Set(0, remapped(1, 0), nil), errs.ErrInvalid)
	require.NoError(t, seven.Set(0, intremap.IRTE{}, nil))
	seven.Revoke(7)

	for _, bad := range []intremap.Config{{Entries: -1}, {Entries: 1<<16 + 1}, {PerVM: -1}, {FaultLog: -1}, {FaultLog: 1 << 30}} {
		_, err := intremap.New(&bad)
		require.ErrorIs(t, err, errs.ErrInvalid, "%+v", bad)
	}
}

// TestFaultLogIsBounded: it keeps the last, in order, and counts all.
func TestFaultLogIsBounded(t *testing.T) {
	table := newTable(t, &intremap.Config{Entries: 1, FaultLog: 4})
	for i := range 10 {
		require.Error(t, table.Write(devA, intremap.Message{Addr: uint64(i)}))
	}
	require.EqualValues(t, 10, table.FaultCount())
	log := table.Faults()
	require.Len(t, log, 4)
	for i, f := range log {
		require.EqualValues(t, 7+i, f.Seq)
		require.EqualValues(t, 6+i, f.Message.Addr)
	}
	require.Equal(t, "fault 10: 3a:01.0 of vm 1: 0x0 at 0x9: not an interrupt address (0xe1)", log[3].String())
	require.Error(t, table.Write(devB, handle(3)))
	require.Equal(t, "fault 11: 3a:01.0 of vm 2: 0x0 at 0xfee00070: entry 3: index outside the table (0x21)", table.Faults()[3].String())
}

// TestNames: what an operator reads tells codes apart, known and unknown.
func TestNames(t *testing.T) {
	all := make(map[string]bool)
	add := func(names ...string) {
		for _, n := range names {
			require.False(t, all[n], n)
			all[n] = true
		}
	}
	for r := range 256 {
		why := intremap.Reason(r)
		add(why.String())
		if r >= 0x20 && r <= 0x28 || r == 0xe0 || r == 0xe1 {
			require.NotEqual(t, syscall.EIO, errs.Errno(why), "a known reason has an errno")
		} else {
			require.NoError(t, why.Unwrap())
		}
	}
	for c := range uint8(8) {
		add(intremap.DeliveryMode(c).String())
	}
	for c := range uint8(4) {
		add(intremap.Format(c).String())
	}
	for c := range uint8(4) {
		add("svt " + intremap.SVT(c).String())
	}
	require.Equal(t, "0x2:0x1", intremap.IRTE{Lo: 1, Hi: 2}.String())
}
