//go:build linux

package vfiouser

import (
	"errors"
	"io"
	"slices"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate/addr"
)

// featureOps says what may be done with each feature. Those of migration need
// a device that can migrate, the log of DMA is the store's and always there.
var featureOps = map[wire.Feature]struct {
	ops     wire.FeatureFlags
	migrate bool
}{
	wire.FeatureMigration:        {wire.FeatureGet, true},
	wire.FeatureMigDeviceState:   {wire.FeatureGet | wire.FeatureSet, true},
	wire.FeatureDMALoggingStart:  {wire.FeatureSet, false},
	wire.FeatureDMALoggingStop:   {wire.FeatureSet, false},
	wire.FeatureDMALoggingReport: {wire.FeatureGet, false},
}

// feature executes DEVICE_FEATURE.
//
// Spec: vfio-user.rst, "VFIO_USER_DEVICE_FEATURE".
func (l *link) feature(m *message) error {
	if len(m.body) < wire.DeviceFeatureLen {
		return refuse("payload of %d bytes", len(m.body))
	}
	r := wire.DecodeDeviceFeature((*[wire.DeviceFeatureLen]byte)(m.body))
	known, ok := featureOps[r.Flags.Feature()]
	ops := r.Flags &^ wire.FeatureMask
	if !ok || known.migrate && l.info.Migration == 0 || ops&^(known.ops|wire.FeatureProbe) != 0 {
		return refuse("%v", r)
	}
	data := m.body[wire.DeviceFeatureLen:]
	switch ops {
	case wire.FeatureGet:
		return l.featureGet(r, data)
	case wire.FeatureSet:
		if uint64(r.Argsz) < uint64(len(m.body)) {
			return refuse("%v of %d bytes", r, len(m.body))
		}
		if err := l.featureSet(r, data); err != nil {
			return err
		}
		l.out = append(l.out, m.body...)
		return nil
	}
	if ops&wire.FeatureProbe == 0 || len(data) != 0 || r.Argsz < wire.DeviceFeatureLen {
		return refuse("%v, %d bytes of data", r, len(data))
	}
	l.out = append(l.out, m.body...)
	return nil
}

// featureGet answers GET: the fixed part, then the data.
func (l *link) featureGet(r wire.DeviceFeature, data []byte) error {
	switch r.Flags.Feature() {
	case wire.FeatureMigration:
		if len(data) != 0 || r.Argsz < wire.DeviceFeatureLen+wire.MigrationLen {
			return refuse("%v, %d bytes of data", r, len(data))
		}
		r.Argsz = wire.DeviceFeatureLen + wire.MigrationLen
		l.out = wire.MigrationFlags(l.info.Migration).Append(r.Append(l.out))
	case wire.FeatureMigDeviceState:
		if len(data) != 0 || r.Argsz < wire.DeviceFeatureLen+wire.MigStateLen {
			return refuse("%v, %d bytes of data", r, len(data))
		}
		r.Argsz = wire.DeviceFeatureLen + wire.MigStateLen
		l.out = wire.MigState{State: uint32(l.s.MigrationState())}.Append(r.Append(l.out))
	case wire.FeatureDMALoggingReport:
		return l.logReport(r, data)
	}
	return nil
}

func (l *link) featureSet(r wire.DeviceFeature, data []byte) error {
	switch r.Flags.Feature() {
	case wire.FeatureMigDeviceState:
		if len(data) != wire.MigStateLen {
			return refuse("%v, %d bytes of data", r, len(data))
		}
		to := wire.DecodeMigState((*[wire.MigStateLen]byte)(data))
		return l.s.SetMigrationState(l.ctx, mdev.MigState(to.State))
	case wire.FeatureDMALoggingStart:
		return l.logStart(r, data)
	case wire.FeatureDMALoggingStop:
		if len(data) != 0 {
			return refuse("%v, %d bytes of data", r, len(data))
		}
		return l.s.LogStop()
	}
	return nil
}

// logStart executes DMA_LOGGING_START. No ranges mean everything.
func (l *link) logStart(r wire.DeviceFeature, data []byte) error {
	if len(data) < wire.LogStartLen {
		return refuse("%v, %d bytes of data", r, len(data))
	}
	start := wire.DecodeLogStart((*[wire.LogStartLen]byte)(data))
	rest := data[wire.LogStartLen:]
	if start.Reserved != 0 || uint64(len(rest)) != uint64(start.NumRanges)*wire.LogRangeLen {
		return refuse("%v, %d ranges in %d bytes", r, start.NumRanges, len(rest))
	}
	var ranges []addr.Range[addr.IOVA]
	for ; len(rest) > 0; rest = rest[wire.LogRangeLen:] {
		x := wire.DecodeLogRange((*[wire.LogRangeLen]byte)(rest))
		g, ok := addr.RangeOf(addr.IOVA(x.IOVA), addr.Len(x.Length))
		if !ok {
			return refuse("%v, range %#x length %#x", r, x.IOVA, x.Length)
		}
		ranges = append(ranges, g)
	}
	return l.s.LogStart(addr.Len(start.PageSize), ranges)
}

// logReport executes DMA_LOGGING_REPORT.
func (l *link) logReport(r wire.DeviceFeature, data []byte) error {
	if len(data) != wire.LogReportLen {
		return refuse("%v, %d bytes of data", r, len(data))
	}
	q := wire.DecodeLogReport((*[wire.LogReportLen]byte)(data))
	words, err := l.bitmap(q.Length, q.PageSize)
	if err != nil {
		return err
	}
	need := uint64(wire.DeviceFeatureLen+wire.LogReportLen) + 8*uint64(len(words))
	if uint64(r.Argsz) < need {
		return refuse("%v of %d bytes", r, need)
	}
	if err := l.s.LogReport(addr.IOVA(q.IOVA), addr.Len(q.Length), addr.Len(q.PageSize), words); err != nil {
		return err
	}
	r.Argsz = uint32(need)
	l.out = wire.AppendBits(q.Append(r.Append(l.out)), words)
	return nil
}

// migDataRead executes MIG_DATA_READ. Less than was asked for is the end.
//
// Spec: vfio-user.rst, "VFIO_USER_MIG_DATA_READ".
func (l *link) migDataRead(m *message) error {
	if err := exactly(m, wire.MigDataLen); err != nil {
		return err
	}
	r := wire.DecodeMigData((*[wire.MigDataLen]byte)(m.body))
	if uint64(r.Size) > uint64(l.srv.cfg.MaxData) || uint64(r.Argsz) < wire.MigDataLen+uint64(r.Size) {
		return refuse("%v", r)
	}
	switch state := l.s.MigrationState(); state {
	case mdev.MigPreCopy, mdev.MigPreCopyP2P, mdev.MigStopCopy:
	default:
		return refuse("%v in state %v", r, state)
	}
	at := len(l.out) + wire.MigDataLen
	l.out = slices.Grow(l.out, wire.MigDataLen+int(r.Size))
	p := l.out[at : at+int(r.Size)]
	n := 0
	for {
		k, err := l.s.ReadMigration(p[n:])
		n += k
		if errors.Is(err, io.EOF) || err == nil && (n == len(p) || k == 0) {
			break
		}
		if err != nil {
			return err
		}
	}
	l.out = wire.MigData{Argsz: uint32(wire.MigDataLen + n), Size: uint32(n)}.Append(l.out)[:at+n]
	return nil
}

// migDataWrite executes MIG_DATA_WRITE.
//
// Spec: vfio-user.rst, "VFIO_USER_MIG_DATA_WRITE".
func (l *link) migDataWrite(m *message) error {
	if len(m.body) < wire.MigDataLen {
		return refuse("payload of %d bytes", len(m.body))
	}
	r := wire.DecodeMigData((*[wire.MigDataLen]byte)(m.body))
	data := m.body[wire.MigDataLen:]
	if uint64(r.Size) != uint64(len(data)) || uint64(r.Argsz) < uint64(len(m.body)) || len(data) > l.srv.cfg.MaxData {
		return refuse("%v, %d bytes", r, len(data))
	}
	if state := l.s.MigrationState(); state != mdev.MigResuming {
		return refuse("%v in state %v", r, state)
	}
	return l.s.WriteMigration(data)
}
