package demo

// Registers of BAR 0, little-endian, 32 bits unless said.
const (
	RegID        = 0x00 // IDValue
	RegVersion   = 0x04 // VersionValue
	RegScratch   = 0x08 // read and write, no meaning
	RegStatus    = 0x0c // StatusBusy, StatusError, errno in bits 16-31
	RegSrc       = 0x10 // 64 bits: IOVA to read from
	RegDst       = 0x18 // 64 bits: IOVA to write to
	RegLen       = 0x20 // bytes, at most MaxLen
	RegValue     = 0x24 // fill pattern; result of a checksum
	RegVector    = 0x28 // MSI-X vector of the completion
	RegCommand   = 0x2c // doorbell: one of the commands
	RegCompleted = 0x30 // commands finished
	RegCounter   = 0x34 // read and write, no meaning
)

// What the registers hold.
const (
	IDValue      = 0x6f6d6564 // "demo" in ASCII, last letter first
	VersionValue = 1

	StatusBusy       = 1 << 0 // commands are queued or running
	StatusError      = 1 << 1 // the last command failed
	StatusErrnoShift = 16     // with what errno

	MaxLen = 1 << 20 // bytes of one command
)

// The commands.
const (
	CommandCopy     = 1 // LEN bytes from SRC to DST
	CommandFill     = 2 // LEN bytes at DST with the low byte of VALUE
	CommandChecksum = 3 // CRC-32 (IEEE) of LEN bytes at SRC into VALUE
	CommandRaise    = 4 // raise VECTOR
)

// Sizes of the regions, and the number of vectors.
const (
	BAR0Size = 4 << 10  // registers
	BAR1Size = 16 << 10 // MSI-X table at 0, PBA at PBAOffset
	BAR2Size = 64 << 10 // memory

	PBAOffset = 0x800
	Vectors   = 4
)
