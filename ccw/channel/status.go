package channel

import "github.com/softmdev/softmdev/ccw/cio"

// status is what the SCSW, the ESW and the ECW are made of.
type status struct {
	flags    cio.SCSWFlags
	key      uint8
	deferred cio.CC
	control  cio.Control
	ccwAddr  uint32
	device   cio.DeviceStatus
	channel  cio.SubchannelStatus
	count    uint16
	lpum     uint8
	senseLen int // bytes of sense that are valid; 0 = no concurrent sense
	sense    cio.ECW
}

// start makes the status that of an accepted start function.
func (st *status) start(orb *cio.ORB) {
	*st = status{
		key:     orb.Key(),
		control: cio.StartFunction | cio.StartPending,
	}
	for _, m := range [...]struct {
		on   bool
		flag cio.SCSWFlags
	}{
		{orb.Suspend(), cio.SCSWSuspend},
		{orb.Format1(), cio.SCSWFormat1},
		{orb.Prefetch(), cio.SCSWPrefetch},
		{orb.InitialStatus(), cio.SCSWInitialStatus},
		{orb.AddressLimit(), cio.SCSWAddressLimit},
		{orb.SuppressSuspend(), cio.SCSWSuppressSuspend},
	} {
		if m.on {
			st.flags |= m.flag
		}
	}
}

// store fills irb. The measurement word is zero: nothing is measured.
func (st *status) store(irb *cio.IRB) {
	*irb = cio.IRB{}
	w := &irb.SCSW
	w.SetKey(st.key)
	w.SetFlags(st.flags)
	w.SetDeferredCC(st.deferred)
	w.SetControl(st.control)
	w.SetCCWAddr(st.ccwAddr)
	w.SetDevice(st.device)
	w.SetSubchannel(st.channel)
	w.SetCount(st.count)
	irb.ESW.SetLPUM(st.lpum)
	if st.senseLen != 0 {
		irb.ESW.SetERW(cio.ERW(0).WithSense(st.senseLen))
		irb.ECW = st.sense
	}
}

// take is what TEST SUBCHANNEL does to the status it stored.
//
// Specification: SA22-7832, "TEST SUBCHANNEL".
func (st *status) take() {
	c := st.control
	if c&cio.StatusMask == cio.IntermediateStatus|cio.StatusPending {
		st.clearIntermediate()
		return
	}
	// With primary status alone the device still works: device end is owed.
	keep := cio.Control(0)
	if c&cio.PrimaryStatus != 0 && c&cio.SecondaryStatus == 0 {
		keep = cio.DeviceActive
	}
	*st = status{
		flags:   st.flags &^ (cio.SCSWLogout | cio.SCSWZero | cio.SCSWExtended | cio.SCSWNotOperational),
		key:     st.key,
		control: c & keep,
		ccwAddr: st.ccwAddr,
		lpum:    st.lpum,
	}
}

// clearIntermediate removes intermediate status and leaves the function in
// progress or suspended.
func (st *status) clearIntermediate() {
	st.control &^= cio.StatusMask
	st.flags &^= cio.SCSWZero | cio.SCSWNotOperational
	st.channel &^= cio.PCI
}

// intermediate makes the subchannel status-pending with intermediate status
// for the CCW at the given address.
func (st *status) intermediate(at uint32, count uint16) {
	st.control |= cio.IntermediateStatus | cio.StatusPending
	st.ccwAddr = nextCCW(at)
	st.count = count
}

// nextCCW is the CCW address that an SCSW shows for a CCW at at: 8 beyond, in
// the 31 bits that the field has.
func nextCCW(at uint32) uint32 { return (at + cio.CCWSize) & (cio.Limit1 - 1) }

// outcome is how a program ended, or that it did not.
type outcome struct {
	kind    ending
	device  cio.DeviceStatus
	channel cio.SubchannelStatus
	ccwAddr uint32
	count   uint16
}

type ending uint8

const (
	ended     ending = iota // with the status of the outcome
	suspended               // before the CCW whose address + 8 is ccwAddr
	stopped                 // by halt, clear or close
	refused                 // the device was busy: deferred condition code 1
)

// finish makes the subchannel status-pending with the end of the start
// function. Intermediate status that nobody took merges with it.
func (st *status) finish(o *outcome) {
	st.control &^= cio.SubchannelActive | cio.DeviceActive | cio.HaltPending
	st.device = o.device
	st.channel = st.channel&cio.PCI | o.channel
	st.ccwAddr = o.ccwAddr
	st.count = o.count
	if o.kind == refused {
		st.deferred = cio.CC1
		st.control |= cio.AlertStatus | cio.StatusPending
		return
	}
	st.control |= cio.PrimaryStatus | cio.StatusPending
	if o.device&cio.DeviceEnd != 0 || o.device&cio.ChannelEnd == 0 {
		st.control |= cio.SecondaryStatus
	} else {
		st.control |= cio.DeviceActive
	}
	if o.device&^cio.Ended != 0 || o.channel != 0 {
		st.control |= cio.AlertStatus
	}
}

// setSense keeps concurrent sense, of which as much as the ECW holds counts.
func (st *status) setSense(b []byte) {
	st.senseLen = copy(st.sense[:], b)
	if st.senseLen != 0 {
		st.flags |= cio.SCSWExtended
	}
}
