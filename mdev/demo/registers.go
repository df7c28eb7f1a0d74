package demo

import "github.com/softmdev/softmdev/mdev/reg"

// Registers of BAR 0, little-endian, 32 bits unless said.
const (
	RegID        = 0x00 // IDValue
	RegVersion   = 0x04 // VersionValue
	RegScratch   = 0x08 // without a meaning
	RegStatus    = 0x0c // StatusBusy, StatusError, errno from bit StatusErrnoShift on
	RegSrc       = 0x10 // 64 bits: IOVA to read from
	RegDst       = 0x18 // 64 bits: IOVA to write to
	RegLen       = 0x20 // bytes, 1 to MaxLen
	RegValue     = 0x24 // pattern of a fill; result of a checksum
	RegVector    = 0x28 // vector of the interrupt that ends the command
	RegCommand   = 0x2c // doorbell: one of the commands
	RegCompleted = 0x30 // how many commands have ended
	RegCounter   = 0x34 // without a meaning
)

// The commands.
const (
	CommandCopy     = 1 // LEN bytes at SRC to DST
	CommandFill     = 2 // the low byte of VALUE to LEN bytes at DST
	CommandChecksum = 3 // CRC-32 (IEEE) of LEN bytes at SRC to VALUE
	CommandRaise    = 4 // nothing but the interrupt
)

// What the registers hold, and how much there is of everything.
const (
	IDValue      = 0x6f6d6564 // "demo"
	VersionValue = 1

	StatusBusy       = 1 << 0 // commands wait or run
	StatusError      = 1 << 1 // the command that ended last failed
	StatusErrnoShift = 16     // with this errno

	MaxLen   = 1 << 20 // bytes of a command
	MaxQueue = 16      // commands that wait behind the one that runs
	Vectors  = 4       // of MSI-X

	BAR0Size  = 4 << 10  // registers
	BAR1Size  = 16 << 10 // MSI-X table at 0, pending bits at PBAOffset
	BAR2Size  = 64 << 10 // memory
	PBAOffset = 0x800
)

// registers is the table of BAR 0; doc.go has it as text.
var registers = []reg.Reg{
	{Offset: RegID, Width: 4, Name: "ID", Reset: IDValue},
	{Offset: RegVersion, Width: 4, Name: "VERSION", Reset: VersionValue},
	{Offset: RegScratch, Width: 4, Name: "SCRATCH", Write: 0xffffffff},
	{Offset: RegStatus, Width: 4, Name: "STATUS", Live: 0xffff0000 | StatusBusy | StatusError},
	{Offset: RegSrc, Width: 8, Name: "SRC", Write: 0xffffffffffffffff},
	{Offset: RegDst, Width: 8, Name: "DST", Write: 0xffffffffffffffff},
	{Offset: RegLen, Width: 4, Name: "LEN", Write: 0xffffffff},
	{Offset: RegValue, Width: 4, Name: "VALUE", Write: 0xffffffff},
	{Offset: RegVector, Width: 4, Name: "VECTOR", Write: Vectors - 1},
	{Offset: RegCommand, Width: 4, Name: "COMMAND", Order: 0xffffffff},
	{Offset: RegCompleted, Width: 4, Name: "COMPLETED", Live: 0xffffffff},
	{Offset: RegCounter, Width: 4, Name: "COUNTER", Write: 0xffffffff},
}
