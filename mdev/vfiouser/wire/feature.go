package wire

import "fmt"

// FeatureFlags are the flags of DEVICE_FEATURE: which feature, and what to do.
//
// Spec: Linux include/uapi/linux/vfio.h, struct vfio_device_feature.
//
//	bit  31       19   18    17    16   15        0
//	     | reserved |PROBE| SET | GET |  feature   |
type FeatureFlags uint32

const (
	FeatureMask  FeatureFlags = 0xffff
	FeatureGet   FeatureFlags = 1 << 16
	FeatureSet   FeatureFlags = 1 << 17
	FeatureProbe FeatureFlags = 1 << 18
)

// Feature is the feature that f is about.
func (f FeatureFlags) Feature() Feature { return Feature(f & FeatureMask) }

var featureFlagNames = bitNames{{1 << 16, "GET"}, {1 << 17, "SET"}, {1 << 18, "PROBE"}}

// String prints the feature and the flags by name.
func (f FeatureFlags) String() string {
	return f.Feature().String() + " " + featureFlagNames.text(uint64(f&^FeatureMask))
}

// Feature is a feature of a device: VFIO_DEVICE_FEATURE_*.
type Feature uint16

const (
	FeatureMigration        Feature = 1
	FeatureMigDeviceState   Feature = 2
	FeatureDMALoggingStart  Feature = 6
	FeatureDMALoggingStop   Feature = 7
	FeatureDMALoggingReport Feature = 8
)

// String names the feature.
func (f Feature) String() string {
	switch f {
	case FeatureMigration:
		return "MIGRATION"
	case FeatureMigDeviceState:
		return "MIG_DEVICE_STATE"
	case FeatureDMALoggingStart:
		return "DMA_LOGGING_START"
	case FeatureDMALoggingStop:
		return "DMA_LOGGING_STOP"
	case FeatureDMALoggingReport:
		return "DMA_LOGGING_REPORT"
	}
	return fmt.Sprintf("Feature(%d)", uint16(f))
}

// DeviceFeatureLen is the length of the fixed part of DEVICE_FEATURE.
const DeviceFeatureLen = 8

// DeviceFeature is the fixed part of DEVICE_FEATURE, request and reply.
//
//	byte  0       4       8
//	      | Argsz | Flags | data ...
type DeviceFeature struct {
	Argsz uint32 // request: room for the payload of the reply; reply: its length
	Flags FeatureFlags
}

// DecodeDeviceFeature decodes the fixed part of DEVICE_FEATURE.
func DecodeDeviceFeature(b *[DeviceFeatureLen]byte) DeviceFeature {
	return DeviceFeature{order.Uint32(b[0:]), FeatureFlags(order.Uint32(b[4:]))}
}

// Append appends the encoding of d.
func (d DeviceFeature) Append(b []byte) []byte {
	b = order.AppendUint32(b, d.Argsz)
	return order.AppendUint32(b, uint32(d.Flags))
}

// String prints the message for logs.
func (d DeviceFeature) String() string { return fmt.Sprintf("argsz %d %v", d.Argsz, d.Flags) }

// MigrationFlags are the data of FeatureMigration: VFIO_MIGRATION_*.
type MigrationFlags uint64

const (
	MigrationStopCopy MigrationFlags = 1 << 0
	MigrationP2P      MigrationFlags = 1 << 1
	MigrationPreCopy  MigrationFlags = 1 << 2
)

var migrationFlagNames = bitNames{{1, "STOP_COPY"}, {2, "P2P"}, {4, "PRE_COPY"}}

// String prints the flags by name, none as 0.
func (f MigrationFlags) String() string { return migrationFlagNames.text(uint64(f)) }

// MigrationLen is the length of the data of FeatureMigration.
const MigrationLen = 8

// Append appends the encoding of f.
func (f MigrationFlags) Append(b []byte) []byte { return order.AppendUint64(b, uint64(f)) }

// DecodeMigration decodes the data of FeatureMigration.
func DecodeMigration(b *[MigrationLen]byte) MigrationFlags { return MigrationFlags(order.Uint64(b[:])) }

// MigStateLen is the length of a MigState.
const MigStateLen = 8

// MigState is the data of FeatureMigDeviceState.
//
//	byte  0       4        8
//	      | State | DataFD |
type MigState struct {
	State  uint32 // enum vfio_device_mig_state
	DataFD uint32 // not used by the protocol
}

// DecodeMigState decodes the data of FeatureMigDeviceState.
func DecodeMigState(b *[MigStateLen]byte) MigState {
	return MigState{order.Uint32(b[0:]), order.Uint32(b[4:])}
}

// Append appends the encoding of m.
func (m MigState) Append(b []byte) []byte {
	b = order.AppendUint32(b, m.State)
	return order.AppendUint32(b, m.DataFD)
}

// Lengths of the data of the logging features.
const (
	LogStartLen  = 16
	LogRangeLen  = 16
	LogReportLen = 24
)

// LogStart is the data of FeatureDMALoggingStart; NumRanges LogRanges follow.
//
//	byte  0          8           12         16
//	      | PageSize | NumRanges | Reserved | ranges ...
type LogStart struct {
	PageSize  uint64
	NumRanges uint32 // 0: everything
	Reserved  uint32
}

// DecodeLogStart decodes the fixed data of FeatureDMALoggingStart.
func DecodeLogStart(b *[LogStartLen]byte) LogStart {
	return LogStart{order.Uint64(b[0:]), order.Uint32(b[8:]), order.Uint32(b[12:])}
}

// Append appends the encoding of l.
func (l LogStart) Append(b []byte) []byte {
	b = order.AppendUint64(b, l.PageSize)
	b = order.AppendUint32(b, l.NumRanges)
	return order.AppendUint32(b, l.Reserved)
}

// LogRange is one range to be logged.
type LogRange struct{ IOVA, Length uint64 }

// DecodeLogRange decodes one range.
func DecodeLogRange(b *[LogRangeLen]byte) LogRange {
	return LogRange{order.Uint64(b[0:]), order.Uint64(b[8:])}
}

// Append appends the encoding of r.
func (r LogRange) Append(b []byte) []byte {
	b = order.AppendUint64(b, r.IOVA)
	return order.AppendUint64(b, r.Length)
}

// LogReport is the data of FeatureDMALoggingReport; in the reply the bits
// follow, bit n of the array of u64 for page n from IOVA.
//
//	byte  0      8        16         24
//	      | IOVA | Length | PageSize | bits ...
type LogReport struct{ IOVA, Length, PageSize uint64 }

// DecodeLogReport decodes the fixed data of FeatureDMALoggingReport.
func DecodeLogReport(b *[LogReportLen]byte) LogReport {
	return LogReport{order.Uint64(b[0:]), order.Uint64(b[8:]), order.Uint64(b[16:])}
}

// Append appends the encoding of r.
func (r LogReport) Append(b []byte) []byte {
	b = order.AppendUint64(b, r.IOVA)
	b = order.AppendUint64(b, r.Length)
	return order.AppendUint64(b, r.PageSize)
}

// MigDataLen is the length of the fixed part of MIG_DATA_READ and
// MIG_DATA_WRITE.
const MigDataLen = 8

// MigData is the fixed part of MIG_DATA_READ, request and reply, and of a
// MIG_DATA_WRITE request, whose reply has no payload. The data follows in a
// read reply and a write request.
//
//	byte  0       4      8
//	      | Argsz | Size | data ...
type MigData struct {
	Argsz uint32
	Size  uint32 // of the data
}

// DecodeMigData decodes the fixed part.
func DecodeMigData(b *[MigDataLen]byte) MigData {
	return MigData{order.Uint32(b[0:]), order.Uint32(b[4:])}
}

// Append appends the encoding of m.
func (m MigData) Append(b []byte) []byte {
	b = order.AppendUint32(b, m.Argsz)
	return order.AppendUint32(b, m.Size)
}

// String prints the message for logs.
func (m MigData) String() string { return fmt.Sprintf("argsz %d size %d", m.Argsz, m.Size) }
