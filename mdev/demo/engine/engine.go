package engine

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Op is what a program does.
type Op uint32

// The operations.
const (
	Copy     Op = 1 // what is read to what is written
	Fill     Op = 2 // the low byte of the value to what is written
	Checksum Op = 3 // CRC-32 (IEEE) of what is read
)

const (
	// MaxBytes is how many bytes a program reads or writes.
	MaxBytes = 1 << 20
	// MaxSegments is how many segments a list has: [MaxBytes] in pages, of
	// which the first and the last are not whole.
	MaxSegments = MaxBytes/int(addr.PageSize) + 1
	// MaxProgram is the size of the largest program in bytes.
	MaxProgram = headerSize + 2*MaxSegments*segmentSize
	// Chunk is how many bytes are moved at a time.
	Chunk = 64 << 10

	headerSize  = 16
	segmentSize = 16
)

// Segment is a stretch of memory.
type Segment struct {
	HPA addr.HPA
	Len addr.Len
}

// Program is a program before it is in memory, or after.
type Program struct {
	Op       Op
	Value    uint32
	Src, Dst []Segment
}

// Encode writes the program to mem; more segments than a program can have, or
// than mem has room for, are errs.ErrNoSpace.
func (p *Program) Encode(mem []byte) error {
	need := headerSize + (len(p.Src)+len(p.Dst))*segmentSize
	if len(p.Src) > MaxSegments || len(p.Dst) > MaxSegments || need > len(mem) {
		return fmt.Errorf("program of %d and %d segments: %w", len(p.Src), len(p.Dst), errs.ErrNoSpace)
	}
	b := binary.LittleEndian.AppendUint32(mem[:0], uint32(p.Op))
	b = binary.LittleEndian.AppendUint32(b, p.Value)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.Src)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.Dst)))
	for _, list := range [][]Segment{p.Src, p.Dst} {
		for _, s := range list {
			b = binary.LittleEndian.AppendUint64(b, uint64(s.HPA))
			b = binary.LittleEndian.AppendUint64(b, uint64(s.Len))
		}
	}
	return nil
}

// Engine is a DMA engine. It runs one program at a time.
type Engine struct {
	mem  *iommu.Domain
	raw  []byte // a program as it was fetched
	buf  []byte // made for the first program
	prog Program
}

// New is an engine that reaches what mem lets it.
func New(mem *iommu.Domain) *Engine { return &Engine{mem: mem} }

// Run runs the program at host address at and returns its result, which only a
// checksum has. step is asked before each access to n bytes of data, and ends
// the program with its error. The error says which segment is at fault and wraps
// what package iommu or step says, or errs.ErrInvalid for a program that is
// none. Run allocates nothing from the second program on.
func (e *Engine) Run(at addr.HPA, step func(n int) error) (result uint32, err error) {
	n, err := e.fetch(at)
	if err != nil {
		return 0, fmt.Errorf("program: %w", err)
	}
	data := e.buf[:n]
	if e.prog.Op != Fill {
		if err := move(e.prog.Src, data, step, e.mem.Read); err != nil {
			return 0, fmt.Errorf("source: %w", err)
		}
	}
	switch e.prog.Op {
	case Checksum:
		return crc32.ChecksumIEEE(data), nil
	case Fill:
		fill(data, byte(e.prog.Value))
	}
	if err := move(e.prog.Dst, data, step, e.mem.Write); err != nil {
		return 0, fmt.Errorf("destination: %w", err)
	}
	return 0, nil
}

func fill(p []byte, v byte) {
	for i := range p {
		p[i] = v
	}
}

// fetch takes the program in and returns how many bytes it moves.
func (e *Engine) fetch(at addr.HPA) (addr.Len, error) {
	if e.raw == nil {
		e.raw, e.buf = make([]byte, MaxProgram), make([]byte, MaxBytes)
	}
	head := e.raw[:headerSize]
	if err := e.mem.Read(at, head); err != nil {
		return 0, err
	}
	p := &e.prog
	p.Op, p.Value = Op(binary.LittleEndian.Uint32(head)), binary.LittleEndian.Uint32(head[4:])
	src, dst := binary.LittleEndian.Uint32(head[8:]), binary.LittleEndian.Uint32(head[12:])
	if src > uint32(MaxSegments) || dst > uint32(MaxSegments) {
		return 0, fmt.Errorf("%d and %d segments: %w", src, dst, errs.ErrInvalid)
	}
	list := e.raw[headerSize:][:(src+dst)*segmentSize]
	if err := e.mem.Read(at+headerSize, list); err != nil {
		return 0, err
	}
	var reads, writes addr.Len
	var err error
	if p.Src, reads, err = segments(p.Src[:0], list[:src*segmentSize]); err != nil {
		return 0, fmt.Errorf("source: %w", err)
	}
	if p.Dst, writes, err = segments(p.Dst[:0], list[src*segmentSize:]); err != nil {
		return 0, fmt.Errorf("destination: %w", err)
	}
	switch {
	case p.Op == Copy && reads == writes && reads > 0:
		return reads, nil
	case p.Op == Fill && reads == 0 && writes > 0:
		return writes, nil
	case p.Op == Checksum && writes == 0 && reads > 0:
		return reads, nil
	}
	return 0, fmt.Errorf("operation %d on %d and %d bytes: %w", p.Op, reads, writes, errs.ErrInvalid)
}

// segments decodes a list and adds it up.
func segments(list []Segment, raw []byte) ([]Segment, addr.Len, error) {
	var sum addr.Len
	for ; len(raw) > 0; raw = raw[segmentSize:] {
		s := Segment{addr.HPA(binary.LittleEndian.Uint64(raw)), addr.Len(binary.LittleEndian.Uint64(raw[8:]))}
		if s.Len == 0 || s.Len > MaxBytes-sum {
			return list, 0, errs.In("segment", len(list), fmt.Errorf("%d bytes after %d: %w", s.Len, sum, errs.ErrInvalid))
		}
		sum += s.Len
		list = append(list, s)
	}
	return list, sum, nil
}

// move moves data from or to segments, which have as many bytes.
func move(list []Segment, data []byte, step func(n int) error, access func(addr.HPA, []byte) error) error {
	for i, s := range list {
		for at := s.HPA; s.Len > 0; {
			n := int(min(s.Len, Chunk))
			err := step(n)
			if err == nil {
				err = access(at, data[:n])
			}
			if err != nil {
				return errs.In("segment", i, err)
			}
			at, s.Len, data = at+addr.HPA(n), s.Len-addr.Len(n), data[n:]
		}
	}
	return nil
}
