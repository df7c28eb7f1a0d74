package mdev

// MigrationFlags are VFIO_MIGRATION_*.
type MigrationFlags uint64

// The migration flags.
const (
	MigrationStopCopy MigrationFlags = 1 << iota
	MigrationP2P
	MigrationPreCopy
)

// MigState is enum vfio_device_mig_state.
type MigState uint32

// The migration states.
const (
	MigError MigState = iota
	MigStop
	MigRunning
	MigStopCopy
	MigResuming
	MigRunningP2P
	MigPreCopy
	MigPreCopyP2P
)
