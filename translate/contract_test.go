package translate_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/softmdev/softmdev/translate/translatetest"
)

// The errno contract of type1 as a table. A row's name cites the table and the
// row of the contract (A2 map, A3 unmap, A4 container calls, A5 calls of a
// mediator) that it makes executable; "kernel:" marks a rule that the tables
// leave out or have differently and that was read in
// drivers/vfio/vfio_iommu_type1.c (Linux 7.0 or later, after the overflow
// series) or in the kernel's vfio_dma_mapping_test.c. Every row runs against
// the store and against the reference model, so that table, model and store
// are three witnesses of one contract.
//
// Rows about the shape of an ioctl (argsz, user pointers, unknown flag bits of
// a struct) belong to the facades that have such a thing; here an unknown bit
// can only come as an access bit.

const (
	kib = 1 << 10
	mib = 1 << 20
	pg  = addr.PageSize

	lastPage = addr.IOVA(0xffff_ffff_ffff_f000) // ends at 2^64-1
	r        = addr.Read
	w        = addr.Write
	rw       = addr.ReadWrite
)

// step is one call and what it must answer.
type step struct {
	do     string // the case of runStep
	iova   addr.IOVA
	n      addr.Len
	access addr.Access // of map and check; 0 means rw unless zero is set
	zero   bool        // access is meant to be 0
	hva    addr.HVA    // of map and resume; 0 means some aligned address
	page   addr.Len    // of get and clear; 0 means 4 KiB
	words  int         // of get and clear; 0 means enough
	want   error       // nil: success
	at     addr.IOVA   // position of the error of read, write, check
	size   addr.Len    // bytes that unmap and suspend report; length of a look-up
	bits   []int       // set bits of get and clear
}

func (s step) String() string {
	return fmt.Sprintf("%s iova %v len %v access %v hva %v page %v", s.do, s.iova, s.n, s.access, s.hva, s.page)
}

type contractRow struct {
	name  string
	cfg   translatetest.Config
	steps []step
}

var v1 = translatetest.Config{V1: true}

// Tables A2: VFIO_IOMMU_MAP_DMA.
var mapRows = []contractRow{
	{"A2: a page is mapped", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: pg},
		{do: "lookup", iova: 0x1000, n: 1, size: pg},
		{do: "lookup", iova: 0x1fff, n: 1, size: 1},
		{do: "lookup", iova: 0x0fff}, {do: "lookup", iova: 0x2000},
	}},
	{"A2: neither READ nor WRITE: EINVAL", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: pg, zero: true, want: errs.ErrInvalid}}},
	{"A2: unknown flag bit: EINVAL (C4 #15: refused, not dropped)", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: pg, access: 4, want: errs.ErrInvalid},
		{do: "map", iova: 0x1000, n: pg, access: rw | 0x80, want: errs.ErrInvalid},
		{do: "lookup", iova: 0x1000}}},
	{"A2: size 0: EINVAL", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: 0, want: errs.ErrInvalid},
		{do: "map", iova: 0, n: 0, want: errs.ErrInvalid}}},
	{"A2: size not aligned to the smallest page: EINVAL", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: 1, want: errs.ErrMisaligned},
		{do: "map", iova: 0x1000, n: pg + 1, want: errs.ErrMisaligned},
		{do: "map", iova: 0x1000, n: pg - 1, want: errs.ErrMisaligned}}},
	{"A2: iova not aligned to the smallest page: EINVAL", translatetest.Config{}, []step{
		{do: "map", iova: 0x1001, n: pg, want: errs.ErrMisaligned},
		{do: "map", iova: 0x1800, n: pg, want: errs.ErrMisaligned}}},
	{"A2: vaddr not aligned to the smallest page: EINVAL", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: pg, hva: 0x7000_0800, want: errs.ErrMisaligned}}},
	{"A2: the smallest page may be larger than 4 KiB", translatetest.Config{PageSizes: 1<<16 | 1<<21}, []step{
		{do: "map", iova: 0x1000, n: 64 * kib, want: errs.ErrMisaligned},
		{do: "map", iova: 0x10000, n: pg, want: errs.ErrMisaligned},
		{do: "map", iova: 0x10000, n: 64 * kib, hva: 0x7000_1000, want: errs.ErrMisaligned},
		{do: "map", iova: 0x10000, n: 64 * kib, hva: 0x7001_0000}}},
	{"A2: only the smallest page counts for alignment, not the larger ones", translatetest.Config{PageSizes: 1<<12 | 1<<21}, []step{
		{do: "map", iova: 0x3000, n: 4 * mib}}},
	{"A2: iova+size-1 wraps: EOVERFLOW", translatetest.Config{}, []step{
		{do: "map", iova: lastPage, n: 2 * pg, want: errs.ErrOverflow},
		{do: "map", iova: 0x2000, n: ^addr.Len(0) &^ 0xfff, hva: 0x1000, want: errs.ErrOverflow},
		{do: "map", iova: 1 << 63, n: 1<<63 + pg, hva: 0x1000, want: errs.ErrOverflow}}},
	{"A2: vaddr+size-1 wraps: EOVERFLOW", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: 2 * pg, hva: addr.HVA(lastPage), want: errs.ErrOverflow}}},
	{"kernel: map looks at the wrap before flags and alignment", translatetest.Config{}, []step{
		{do: "map", iova: lastPage, n: 2 * pg, zero: true, want: errs.ErrOverflow},
		{do: "map", iova: lastPage + 1, n: pg, want: errs.ErrOverflow},
		{do: "map", iova: lastPage, n: pg + 1, want: errs.ErrOverflow}}},
	{"A2: overlaps an identical mapping: EEXIST", translatetest.Config{}, []step{
		{do: "map", iova: 0x4000, n: 4 * pg},
		{do: "map", iova: 0x4000, n: 4 * pg, want: errs.ErrExists}}},
	{"A2: overlaps any mapping, by one page at either end, inside, around: EEXIST", translatetest.Config{}, []step{
		{do: "map", iova: 0x4000, n: 4 * pg},
		{do: "map", iova: 0x3000, n: 2 * pg, want: errs.ErrExists},
		{do: "map", iova: 0x7000, n: 2 * pg, want: errs.ErrExists},
		{do: "map", iova: 0x5000, n: pg, want: errs.ErrExists},
		{do: "map", iova: 0x0000, n: 64 * pg, want: errs.ErrExists},
		{do: "map", iova: 0x3000, n: pg}, {do: "map", iova: 0x8000, n: pg},
		{do: "avail", n: 65535 - 3}}},
	{"A2: overlaps two mappings and the hole between: EEXIST", translatetest.Config{}, []step{
		{do: "map", iova: 0x4000, n: pg}, {do: "map", iova: 0x6000, n: pg},
		{do: "map", iova: 0x5000, n: pg}, {do: "unmap", iova: 0x5000, n: pg, size: pg},
		{do: "map", iova: 0x4000, n: 3 * pg, want: errs.ErrExists}}},
	{"A2: no dma_avail left: ENOSPC", translatetest.Config{MaxMappings: 2}, []step{
		{do: "map", iova: 0x1000, n: pg}, {do: "map", iova: 0x2000, n: pg}, {do: "avail", n: 0},
		{do: "map", iova: 0x3000, n: pg, want: errs.ErrNoSpace},
		{do: "unmap", iova: 0x1000, n: pg, size: pg}, {do: "avail", n: 1},
		{do: "map", iova: 0x3000, n: pg}}},
	{"kernel: an overlap in a full table is EEXIST", translatetest.Config{MaxMappings: 1}, []step{
		{do: "map", iova: 0x1000, n: pg},
		{do: "map", iova: 0x1000, n: pg, want: errs.ErrExists}}},
	{"kernel: a full table comes before the valid ranges: ENOSPC",
		translatetest.Config{MaxMappings: 1, Ranges: ranges(0, 0xffff)}, []step{
			{do: "map", iova: 0x1000, n: pg},
			{do: "map", iova: 0x10000, n: pg, want: errs.ErrNoSpace}}},
	{"A2: outside the valid iova ranges: EINVAL",
		translatetest.Config{Ranges: ranges(0x1000, 0xffff, 0x20000, 0x2ffff)}, []step{
			{do: "map", iova: 0, n: pg, want: errs.ErrOutsideRange},
			{do: "map", iova: 0, n: 2 * pg, want: errs.ErrOutsideRange},
			{do: "map", iova: 0xf000, n: 2 * pg, want: errs.ErrOutsideRange},
			{do: "map", iova: 0xf000, n: 0x12000, want: errs.ErrOutsideRange},
			{do: "map", iova: 0x30000, n: pg, want: errs.ErrOutsideRange},
			{do: "map", iova: lastPage, n: pg, want: errs.ErrOutsideRange},
			{do: "map", iova: 0x1000, n: 0xf000}, {do: "map", iova: 0x20000, n: 0x10000}}},
	{"kernel: a mapping over the seam of two adjoining ranges is in neither: EINVAL",
		translatetest.Config{Ranges: ranges(0x0, 0xffff, 0x10000, 0x1ffff)}, []step{
			{do: "map", iova: 0xf000, n: 2 * pg, want: errs.ErrOutsideRange},
			{do: "map", iova: 0xf000, n: pg}, {do: "map", iova: 0x10000, n: pg}}},
	{"A2: last-page mapping (iova+size == 2^64) must be legal", translatetest.Config{}, []step{
		{do: "map", iova: lastPage, n: pg},
		{do: "lookup", iova: ^addr.IOVA(0), n: 1, size: 1}, {do: "lookup", iova: lastPage, n: 1, size: pg}, {do: "lookup", iova: 0},
		{do: "map", iova: lastPage, n: pg, want: errs.ErrExists},
		{do: "map", iova: lastPage - 0x1000, n: 2 * pg, want: errs.ErrExists},
		{do: "unmap", iova: lastPage, n: pg, size: pg},
		{do: "lookup", iova: ^addr.IOVA(0)},
		{do: "map", iova: lastPage, n: pg}, {do: "unmapall", size: pg}}},
	{"A2: last-page mapping in a range that ends at 2^64-1",
		translatetest.Config{Ranges: ranges(lastPage, ^addr.IOVA(0))}, []step{
			{do: "map", iova: lastPage, n: pg},
			{do: "map", iova: lastPage - 0x1000, n: pg, want: errs.ErrOutsideRange}}},
	{"A2: all of the space but its last page is one legal mapping", translatetest.Config{}, []step{
		{do: "remote", iova: 0, n: ^addr.Len(0) &^ 0xfff},
		{do: "lookup", iova: 0, n: 1, size: ^addr.Len(0) &^ 0xfff}, {do: "lookup", iova: lastPage - 1, n: 1, size: 1}, {do: "lookup", iova: lastPage},
		{do: "map", iova: lastPage, n: pg},
		{do: "unmap", iova: 0, n: ^addr.Len(0) &^ 0xfff, size: ^addr.Len(0) &^ 0xfff}}},
	{"A2: all of the space but its first page is one legal mapping", translatetest.Config{}, []step{
		{do: "remote", iova: 0x1000, n: ^addr.Len(0) &^ 0xfff},
		{do: "lookup", iova: ^addr.IOVA(0), n: 1, size: 1}, {do: "lookup", iova: 0xfff},
		{do: "unmap", iova: 0x1000, n: ^addr.Len(0) &^ 0xfff, size: ^addr.Len(0) &^ 0xfff}}},
	{"A2: VADDR flag, no mapping there: ENOENT", translatetest.Config{}, []step{
		{do: "resume", iova: 0x1000, n: pg, want: errs.ErrNotFound},
		{do: "map", iova: 0x1000, n: pg},
		{do: "resume", iova: 0x2000, n: pg, want: errs.ErrNotFound}}},
	{"A2: VADDR flag, mapping not suspended: EINVAL", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: pg},
		{do: "resume", iova: 0x1000, n: pg, want: errs.ErrInvalid}}},
	{"A2: VADDR flag, not exactly the same iova+size: EINVAL", translatetest.Config{}, []step{
		{do: "map", iova: 0x4000, n: 2 * pg},
		{do: "suspend", iova: 0x4000, n: 2 * pg, size: 2 * pg},
		{do: "resume", iova: 0x4000, n: pg, want: errs.ErrInvalid},
		{do: "resume", iova: 0x5000, n: pg, want: errs.ErrInvalid},
		{do: "resume", iova: 0x3000, n: 2 * pg, want: errs.ErrInvalid},
		{do: "resume", iova: 0x4000, n: 3 * pg, want: errs.ErrInvalid},
		{do: "lookup", iova: 0x4000},
		{do: "resume", iova: 0x4000, n: 2 * pg},
		{do: "lookup", iova: 0x4000, n: 1, size: 2 * pg}}},
	{"kernel: VADDR flag, size, wrap and alignment are looked at first", translatetest.Config{}, []step{
		{do: "map", iova: 0x4000, n: pg}, {do: "suspend", iova: 0x4000, n: pg, size: pg},
		{do: "resume", iova: 0x4000, n: 0, want: errs.ErrInvalid},
		{do: "resume", iova: lastPage, n: 2 * pg, want: errs.ErrOverflow},
		{do: "resume", iova: 0x4000, n: pg, hva: 0x7000_0001, want: errs.ErrMisaligned},
		{do: "resume", iova: 0x4001, n: pg, want: errs.ErrMisaligned},
		{do: "resume", iova: 0x4000, n: pg}}},
}

// Table A3: VFIO_IOMMU_UNMAP_DMA.
var unmapRows = []contractRow{
	{"A3: always: size is the bytes really unmapped", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: pg}, {do: "map", iova: 0x4000, n: 2 * pg},
		{do: "unmap", iova: 0, n: 16 * pg, size: 3 * pg},
		{do: "avail", n: 65535}}},
	{"A3: v2, range may cover many mappings", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: pg}, {do: "map", iova: 0x2000, n: pg}, {do: "map", iova: 0x4000, n: pg}, {do: "map", iova: 0x9000, n: pg},
		{do: "unmap", iova: 0x1000, n: 4 * pg, size: 3 * pg},
		{do: "lookup", iova: 0x9000, n: 1, size: pg}}},
	{"A3: v2, must not bisect one, at the front, at the back, inside: EINVAL", translatetest.Config{}, []step{
		{do: "map", iova: 0x4000, n: 4 * pg},
		{do: "unmap", iova: 0x5000, n: 3 * pg, want: errs.ErrBisects},
		{do: "unmap", iova: 0x4000, n: 3 * pg, want: errs.ErrBisects},
		{do: "unmap", iova: 0x5000, n: pg, want: errs.ErrBisects},
		{do: "unmap", iova: 0x3000, n: 2 * pg, want: errs.ErrBisects},
		{do: "unmap", iova: 0x7000, n: 9 * pg, want: errs.ErrBisects},
		{do: "unmap", iova: 0x5000, n: 16 * pg, want: errs.ErrBisects},
		{do: "lookup", iova: 0x4000, n: 1, size: 4 * pg}}},
	{"A3: v2, bisecting the second of two: EINVAL, and the first stays", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: pg}, {do: "map", iova: 0x2000, n: 2 * pg},
		{do: "unmap", iova: 0x1000, n: 2 * pg, want: errs.ErrBisects},
		{do: "lookup", iova: 0x1000, n: 1, size: pg}, {do: "lookup", iova: 0x2000, n: 1, size: 2 * pg}}},
	{"A3: v2, range covers none: success, size 0", translatetest.Config{}, []step{
		{do: "unmap", iova: 0x1000, n: pg, size: 0},
		{do: "map", iova: 0x4000, n: pg},
		{do: "unmap", iova: 0x1000, n: 3 * pg, size: 0}, {do: "unmap", iova: 0x5000, n: pg, size: 0}, {do: "unmap", iova: lastPage, n: pg, size: 0}}},
	{"A3: v1, start inside a mapping: success, size 0", v1, []step{
		{do: "map", iova: 0x4000, n: 4 * pg},
		{do: "unmap", iova: 0x5000, n: pg, size: 0}, {do: "unmap", iova: 0x7000, n: pg, size: 0},
		{do: "lookup", iova: 0x4000, n: 1, size: 4 * pg}}},
	{"kernel: v1, start inside a mapping: not even whole mappings further on go", v1, []step{
		{do: "map", iova: 0x4000, n: 2 * pg}, {do: "map", iova: 0x8000, n: pg},
		{do: "unmap", iova: 0x5000, n: 16 * pg, size: 0},
		{do: "lookup", iova: 0x8000, n: 1, size: pg}}},
	{"A3: v1, start on a mapping: the whole mapping goes, even if size was smaller", v1, []step{
		{do: "map", iova: 0x4000, n: 4 * pg},
		{do: "unmap", iova: 0x4000, n: pg, size: 4 * pg},
		{do: "lookup", iova: 0x7000}}},
	{"kernel: v1, a range that starts in a hole takes each mapping that starts in it, whole", v1, []step{
		{do: "map", iova: 0x4000, n: pg}, {do: "map", iova: 0x6000, n: 4 * pg}, {do: "map", iova: 0xa000, n: pg},
		{do: "unmap", iova: 0x3000, n: 4 * pg, size: 5 * pg},
		{do: "lookup", iova: 0x9000}, {do: "lookup", iova: 0xa000, n: 1, size: pg}}},
	{"A3: v1, range covers none: success, size 0", v1, []step{
		{do: "unmap", iova: 0x1000, n: pg, size: 0}}},
	{"A3: size 0 without ALL: EINVAL", translatetest.Config{}, []step{
		{do: "unmap", iova: 0, n: 0, want: errs.ErrInvalid}, {do: "unmap", iova: 0x1000, n: 0, want: errs.ErrInvalid}}},
	{"A3: misaligned: EINVAL", translatetest.Config{}, []step{
		{do: "unmap", iova: 0x1001, n: pg, want: errs.ErrMisaligned}, {do: "unmap", iova: 0x1000, n: 1, want: errs.ErrMisaligned},
		{do: "unmap", iova: 0, n: ^addr.Len(0), want: errs.ErrMisaligned}}},
	{"A3: iova+size-1 wraps: EOVERFLOW", translatetest.Config{}, []step{
		{do: "map", iova: lastPage, n: pg},
		{do: "unmap", iova: lastPage, n: 2 * pg, want: errs.ErrOverflow},
		{do: "unmap", iova: 0x1000, n: ^addr.Len(0) &^ 0xfff, size: pg}, // the longest that does not wrap
	}},
	{"kernel: unmap looks at the alignment before the wrap", translatetest.Config{}, []step{
		{do: "unmap", iova: lastPage + 1, n: pg, want: errs.ErrMisaligned},
		{do: "unmap", iova: lastPage, n: pg + 1, want: errs.ErrMisaligned}}},
	{"A3: ALL takes every mapping and reports the sum", translatetest.Config{}, []step{
		{do: "unmapall", size: 0},
		{do: "map", iova: 0, n: pg}, {do: "map", iova: 1 << 40, n: 2 * mib}, {do: "map", iova: lastPage, n: pg},
		{do: "unmapall", size: 2*pg + 2*mib}, {do: "avail", n: 65535}, {do: "unmapall", size: 0}}},
	{"A3: VADDR suspends: nothing is found, the mapping stays and counts", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: pg},
		{do: "suspend", iova: 0x1000, n: pg, size: pg},
		{do: "lookup", iova: 0x1000}, {do: "avail", n: 65534},
		{do: "map", iova: 0x1000, n: pg, want: errs.ErrExists}}},
	{"A3: VADDR hits a mapping already suspended: EINVAL, and those suspended by this call are restored", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: pg}, {do: "map", iova: 0x2000, n: pg}, {do: "map", iova: 0x3000, n: pg},
		{do: "suspend", iova: 0x2000, n: pg, size: pg},
		{do: "suspend", iova: 0x1000, n: 3 * pg, want: errs.ErrInvalid},
		{do: "lookup", iova: 0x1000, n: 1, size: pg}, {do: "lookup", iova: 0x3000, n: 1, size: pg}, {do: "lookup", iova: 0x2000},
		{do: "suspendall", want: errs.ErrInvalid},
		{do: "lookup", iova: 0x1000, n: 1, size: pg},
		{do: "resume", iova: 0x2000, n: pg}, {do: "suspendall", size: 3 * pg}, {do: "lookup", iova: 0x3000}}},
	{"kernel: VADDR selects as unmap does: bisecting is EINVAL, nothing there is size 0", translatetest.Config{}, []step{
		{do: "suspendall", size: 0}, {do: "suspend", iova: 0x1000, n: pg, size: 0},
		{do: "map", iova: 0x4000, n: 4 * pg},
		{do: "suspend", iova: 0x5000, n: pg, want: errs.ErrBisects}, {do: "suspend", iova: 0x4000, n: 2 * pg, want: errs.ErrBisects},
		{do: "suspend", iova: 0x4000, n: 0, want: errs.ErrInvalid}, {do: "suspend", iova: 0x4001, n: pg, want: errs.ErrMisaligned},
		{do: "suspend", iova: lastPage, n: 2 * pg, want: errs.ErrOverflow},
		{do: "suspend", iova: 0, n: 64 * pg, size: 4 * pg}}},
	{"kernel: VADDR under v1: start inside is size 0, start on it takes it whole", v1, []step{
		{do: "map", iova: 0x4000, n: 4 * pg},
		{do: "suspend", iova: 0x5000, n: pg, size: 0}, {do: "lookup", iova: 0x4000, n: 1, size: 4 * pg},
		{do: "suspend", iova: 0x4000, n: pg, size: 4 * pg}, {do: "lookup", iova: 0x7000}}},
	{"kernel: a suspended mapping can be unmapped", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: pg}, {do: "suspend", iova: 0x1000, n: pg, size: pg},
		{do: "unmap", iova: 0x1000, n: pg, size: pg}, {do: "avail", n: 65535},
		{do: "map", iova: 0x1000, n: pg}, {do: "lookup", iova: 0x1000, n: 1, size: pg}}},
	{"A3: GET_DIRTY without tracking on: EINVAL, nothing goes", translatetest.Config{}, []step{
		{do: "map", iova: 0x4000, n: pg}, {do: "unmapdirty", iova: 0x4000, n: pg, want: errs.ErrInvalid}}},
	{"A3: GET_DIRTY, page size no power of two or below the smallest: EINVAL", translatetest.Config{PageSizes: 1 << 16}, []step{
		{do: "start"}, {do: "map", iova: 0x10000, n: 64 * kib, hva: 0x7001_0000},
		{do: "unmapdirty", iova: 0x10000, n: 64 * kib, page: pg, want: errs.ErrInvalid},
		{do: "unmapdirty", iova: 0x10000, n: 64 * kib, page: 3 << 15, want: errs.ErrInvalid}}},
	{"A3: GET_DIRTY with a bitmap too small: EINVAL", translatetest.Config{}, []step{
		{do: "start"}, {do: "map", iova: 0, n: 65 * pg}, {do: "unmapdirty", iova: 0, n: 65 * pg, words: 1, want: errs.ErrInvalid}}},
	{"A3: GET_DIRTY: size 0, misaligned, wrapping and bisecting as without", translatetest.Config{}, []step{
		{do: "start"}, {do: "remote", iova: 0x4000, n: 4 * pg}, {do: "write", iova: 0x4000, n: 1},
		{do: "unmapdirty", iova: 0x4000, n: 0, want: errs.ErrInvalid}, {do: "unmapdirty", iova: 0x4001, n: pg, want: errs.ErrMisaligned},
		{do: "unmapdirty", iova: lastPage, n: 2 * pg, want: errs.ErrOverflow}, {do: "unmapdirty", iova: 0x5000, n: pg, want: errs.ErrBisects},
		{do: "get", iova: 0x4000, n: 4 * pg, bits: []int{0}}}},
	{"A3: GET_DIRTY returns the last bits of what goes", translatetest.Config{}, []step{
		{do: "start"}, {do: "remote", iova: 0x4000, n: 4 * pg}, {do: "remote", iova: 0x9000, n: pg}, {do: "remote", iova: 0x20000, n: pg},
		{do: "write", iova: 0x5fff, n: 2}, {do: "write", iova: 0x9000, n: 1}, {do: "write", iova: 0x20000, n: 1},
		{do: "unmapdirty", iova: 0x4000, n: 8 * pg, size: 5 * pg, bits: []int{1, 2, 5}},
		{do: "get", iova: 0, n: 64 * pg, bits: []int{32}}, {do: "unmapdirty", iova: 0x4000, n: 8 * pg}}},
	{"A3: GET_DIRTY of a suspended mapping has what was written before", translatetest.Config{}, []step{
		{do: "start"}, {do: "remote", iova: 0x4000, n: pg}, {do: "write", iova: 0x4000, n: 1}, {do: "suspendall", size: pg},
		{do: "unmapdirty", iova: 0x4000, n: pg, size: pg, bits: []int{0}}}},
	{"A3: last page, by VADDR and back", translatetest.Config{}, []step{
		{do: "map", iova: lastPage, n: pg}, {do: "suspend", iova: lastPage, n: pg, size: pg}, {do: "lookup", iova: lastPage},
		{do: "resume", iova: lastPage, n: pg}, {do: "lookup", iova: lastPage, n: 1, size: pg}}},
}

// Table A4: GET_INFO and DIRTY_PAGES.
var containerRows = []contractRow{
	{"A4: GET_INFO: dma_avail starts at 65535 and follows the mappings", translatetest.Config{}, []step{
		{do: "avail", n: 65535}, {do: "map", iova: 0, n: pg}, {do: "avail", n: 65534},
		{do: "map", iova: 0, n: pg, want: errs.ErrExists}, {do: "avail", n: 65534},
		{do: "unmapall", size: pg}, {do: "avail", n: 65535}}},
	{"A4: DIRTY_PAGES on v1: EACCES", v1, []step{
		{do: "start", want: errs.ErrNotV2}, {do: "stop", want: errs.ErrNotV2},
		{do: "get", iova: 0, n: pg, want: errs.ErrNotV2}}},
	{"A4: START and STOP are idempotent, a second START loses nothing", translatetest.Config{}, []step{
		{do: "stop"}, {do: "remote", iova: 0, n: pg}, {do: "start"}, {do: "write", iova: 0, n: 1}, {do: "start"},
		{do: "get", iova: 0, n: pg, bits: []int{0}},
		{do: "stop"}, {do: "stop"}, {do: "start"}, {do: "get", iova: 0, n: pg}}},
	{"A4: GET needs tracking: EINVAL", translatetest.Config{}, []step{
		{do: "get", iova: 0, n: pg, want: errs.ErrInvalid}, {do: "start"}, {do: "get", iova: 0, n: pg},
		{do: "stop"}, {do: "get", iova: 0, n: pg, want: errs.ErrInvalid}}},
	{"A4: GET aligned, not empty, not past 2^64", translatetest.Config{}, []step{
		{do: "start"},
		{do: "get", iova: 1, n: pg, want: errs.ErrMisaligned}, {do: "get", iova: 0, n: pg + 1, want: errs.ErrMisaligned},
		{do: "get", iova: 0, n: 0, want: errs.ErrInvalid},
		{do: "get", iova: lastPage, n: 2 * pg, want: errs.ErrOverflow}, {do: "get", iova: lastPage, n: pg}}},
	{"A4: GET not bisecting: EINVAL", translatetest.Config{}, []step{
		{do: "map", iova: 0x4000, n: 4 * pg}, {do: "start"},
		{do: "get", iova: 0x5000, n: pg, want: errs.ErrBisects}, {do: "get", iova: 0x4000, n: pg, want: errs.ErrBisects},
		{do: "get", iova: 0x7000, n: 8 * pg, want: errs.ErrBisects}, {do: "get", iova: 0x0000, n: 5 * pg, want: errs.ErrBisects},
		{do: "get", iova: 0x4000, n: 4 * pg}, {do: "get", iova: 0, n: 64 * pg}}},
	{"A4: GET page size: a power of two, the smallest page or larger (ours; the kernel: only the smallest)", translatetest.Config{PageSizes: 1<<16 | 1<<21}, []step{
		{do: "start"},
		{do: "get", iova: 0, n: 2 * mib, page: pg, want: errs.ErrInvalid}, {do: "get", iova: 0, n: 2 * mib, page: 3 * 64 * kib, want: errs.ErrInvalid},
		{do: "get", iova: 0, n: 2 * mib, page: 64 * kib}, {do: "get", iova: 0, n: 2 * mib, page: 2 * mib}, {do: "get", iova: 0, n: 2 * mib, page: 128 * kib},
		{do: "get", iova: 64 * kib, n: 2 * mib, page: 128 * kib, want: errs.ErrMisaligned}}},
	{"A4: GET with a bitmap too small: EINVAL", translatetest.Config{}, []step{
		{do: "start"}, {do: "get", iova: 0, n: 65 * pg, words: 1, want: errs.ErrInvalid}, {do: "get", iova: 0, n: 64 * pg, words: 1}}},
	{"A4: GET, max_dirty_bitmap_size: 2^31 bits and not one more", translatetest.Config{}, []step{
		{do: "start"}, {do: "get", iova: 0, n: (1<<31 + 1) * pg, words: 1, want: errs.ErrInvalid},
		{do: "get", iova: 0, n: ^addr.Len(0) &^ 0xfff, words: 1, want: errs.ErrInvalid}}},
	{"A4: GET reports the pages written, with clear once, without clear again", translatetest.Config{}, []step{
		{do: "remote", iova: 0x10000, n: 16 * pg}, {do: "start"}, {do: "get", iova: 0x10000, n: 16 * pg},
		{do: "write", iova: 0x10fff, n: 2}, {do: "write", iova: 0x1f000, n: 1}, {do: "read", iova: 0x15000, n: 8},
		{do: "get", iova: 0x10000, n: 16 * pg, bits: []int{0, 1, 15}},
		{do: "clear", iova: 0x10000, n: 16 * pg, bits: []int{0, 1, 15}},
		{do: "clear", iova: 0x10000, n: 16 * pg}}},
	{"A4 (N11): GET covers mappings made after START", translatetest.Config{}, []step{
		{do: "start"}, {do: "remote", iova: 0x10000, n: 2 * pg}, {do: "write", iova: 0x11000, n: 1},
		{do: "clear", iova: 0x10000, n: 2 * pg, bits: []int{1}}}},
	{"A4 (N11): a write before START is not in the log, a refused write neither", translatetest.Config{}, []step{
		{do: "remote", iova: 0x10000, n: 2 * pg}, {do: "write", iova: 0x11000, n: 1}, {do: "start"},
		{do: "write", iova: 0x11fff, n: 2, want: errs.ErrNotMapped, at: 0x12000},
		{do: "get", iova: 0x10000, n: 2 * pg}}},
	{"A4 (N11): a larger page size folds bits", translatetest.Config{}, []step{
		{do: "remote", iova: 0, n: 32 * pg}, {do: "start"}, {do: "write", iova: 0x1000, n: 1}, {do: "write", iova: 0x1f000, n: 1},
		{do: "get", iova: 0, n: 32 * pg, page: 64 * kib, bits: []int{0, 1}},
		{do: "get", iova: 0, n: 32 * pg, page: 8 * kib, bits: []int{0, 15}},
		{do: "clear", iova: 0, n: 32 * pg, page: 128 * kib, bits: []int{0}},
		{do: "get", iova: 0, n: 32 * pg}}},
	{"A4: the log of a mapping goes with it", translatetest.Config{}, []step{
		{do: "remote", iova: 0, n: pg}, {do: "start"}, {do: "write", iova: 0, n: 1}, {do: "unmap", iova: 0, n: pg, size: pg},
		{do: "get", iova: 0, n: pg}, {do: "remote", iova: 0, n: pg}, {do: "get", iova: 0, n: pg}}},
	{"A4: a suspended mapping keeps its log", translatetest.Config{}, []step{
		{do: "remote", iova: 0, n: pg}, {do: "start"}, {do: "write", iova: 0, n: 1}, {do: "suspend", iova: 0, n: pg, size: pg},
		{do: "get", iova: 0, n: pg, bits: []int{0}}, {do: "resume", iova: 0, n: pg}, {do: "get", iova: 0, n: pg, bits: []int{0}}}},
	{"A4: MarkDirty (DMA by other means) counts where there is a mapping", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: pg}, {do: "map", iova: lastPage, n: pg}, {do: "mark", iova: 0x1000, n: 1}, {do: "start"},
		{do: "get", iova: 0, n: 4 * pg}, {do: "mark", iova: 0, n: 4 * pg}, {do: "mark", iova: lastPage, n: pg}, {do: "mark", iova: 0x1000, n: 0},
		{do: "get", iova: 0, n: 4 * pg, bits: []int{1}}, {do: "get", iova: lastPage, n: pg, bits: []int{0}}}},
}

// Table A5: what a mediator does with guest memory (vfio_dma_rw, and the
// checks that vfio_pin_pages makes before it pins).
var accessRows = []contractRow{
	{"A5: dma_rw: no mapping: EINVAL", translatetest.Config{}, []step{
		{do: "read", iova: 0x1000, n: 1, want: errs.ErrNotMapped, at: 0x1000},
		{do: "write", iova: 0x1000, n: 1, want: errs.ErrNotMapped, at: 0x1000},
		{do: "check", iova: 0x1000, n: 1, access: r, want: errs.ErrNotMapped, at: 0x1000}}},
	{"A5: dma_rw crosses mappings", translatetest.Config{}, []step{
		{do: "remote", iova: 0x1000, n: pg}, {do: "remote", iova: 0x2000, n: pg}, {do: "remote", iova: 0x3000, n: pg},
		{do: "write", iova: 0x1ffe, n: 0x1004}, {do: "read", iova: 0x1ff0, n: 0x1020}}},
	{"A5: dma_rw into a hole: refused at the hole, nothing moved (ours; the kernel moves the part before)", translatetest.Config{}, []step{
		{do: "remote", iova: 0x1000, n: pg}, {do: "remote", iova: 0x3000, n: pg},
		{do: "write", iova: 0x1ffe, n: 8, want: errs.ErrNotMapped, at: 0x2000},
		{do: "write", iova: 0x1ffe, n: 0x1010, want: errs.ErrNotMapped, at: 0x2000},
		{do: "read", iova: 0x1ffe, n: 0x1010, want: errs.ErrNotMapped, at: 0x2000},
		{do: "read", iova: 0x1ff0, n: 16}}},
	{"A5: dma_rw: prot: EPERM", translatetest.Config{}, []step{
		{do: "remote", iova: 0x1000, n: pg, access: r}, {do: "remote", iova: 0x2000, n: pg, access: w}, {do: "remote", iova: 0x3000, n: pg},
		{do: "write", iova: 0x1000, n: 1, want: errs.ErrPermission, at: 0x1000},
		{do: "read", iova: 0x2000, n: 1, want: errs.ErrPermission, at: 0x2000},
		{do: "read", iova: 0x1fff, n: 2, want: errs.ErrPermission, at: 0x2000},
		{do: "write", iova: 0x2fff, n: 2}, {do: "write", iova: 0x2000, n: 1}, {do: "read", iova: 0x1000, n: 1}}},
	{"A5: pin asks for more than the mapping allows: EPERM", translatetest.Config{}, []step{
		{do: "map", iova: 0x1000, n: pg, access: r}, {do: "map", iova: 0x2000, n: pg, access: rw},
		{do: "check", iova: 0x1000, n: 2 * pg, access: r},
		{do: "check", iova: 0x1000, n: 2 * pg, access: rw, want: errs.ErrPermission, at: 0x1000},
		{do: "check", iova: 0x2000, n: pg, access: rw},
		{do: "check", iova: 0x2000, n: pg + 1, access: r, want: errs.ErrNotMapped, at: 0x3000}}},
	{"A5: vaddr suspended: EBUSY (ours: only where it is; the kernel: while any is)", translatetest.Config{}, []step{
		{do: "remote", iova: 0x1000, n: pg}, {do: "remote", iova: 0x2000, n: pg}, {do: "suspend", iova: 0x2000, n: pg, size: pg},
		{do: "read", iova: 0x2000, n: 1, want: errs.ErrSuspended, at: 0x2000},
		{do: "write", iova: 0x1fff, n: 2, want: errs.ErrSuspended, at: 0x2000},
		{do: "check", iova: 0x1fff, n: 2, access: r, want: errs.ErrSuspended, at: 0x2000},
		{do: "read", iova: 0x1000, n: 4}, {do: "resume", iova: 0x2000, n: pg}, {do: "read", iova: 0x1fff, n: 2}}},
	{"C4 #2: dma_rw past 2^64: EOVERFLOW, up to it: fine", translatetest.Config{}, []step{
		{do: "remote", iova: lastPage, n: pg}, {do: "remote", iova: 0, n: pg},
		{do: "write", iova: ^addr.IOVA(0) - 3, n: 4}, {do: "read", iova: ^addr.IOVA(0), n: 1},
		{do: "read", iova: ^addr.IOVA(0), n: 2, want: errs.ErrOverflow, at: ^addr.IOVA(0)},
		{do: "write", iova: ^addr.IOVA(0) - 3, n: 5, want: errs.ErrOverflow, at: ^addr.IOVA(0) - 3},
		{do: "check", iova: lastPage, n: ^addr.Len(0), access: r, want: errs.ErrOverflow, at: lastPage},
		{do: "check", iova: 0, n: ^addr.Len(0), access: r, want: errs.ErrNotMapped, at: 0x1000}}},
	{"C4 #2: dma_rw over 2^32", translatetest.Config{}, []step{
		{do: "remote", iova: 0xffff_f000, n: pg}, {do: "remote", iova: 0x1_0000_0000, n: pg},
		{do: "write", iova: 0xffff_fffe, n: 4}, {do: "read", iova: 0xffff_fff0, n: 32}, {do: "lookup", iova: 0}}},
	{"A5: a request for nothing touches nothing", translatetest.Config{}, []step{
		{do: "read", iova: 0x1000, n: 0}, {do: "write", iova: ^addr.IOVA(0), n: 0}, {do: "check", iova: 0x1000, n: 0, access: rw}}},
}

func ranges(bounds ...addr.IOVA) (rs []addr.Range[addr.IOVA]) {
	for i := 0; i < len(bounds); i += 2 {
		one, _ := addr.RangeLast(bounds[i], bounds[i+1])
		rs = append(rs, one)
	}
	return rs
}

// subjects are the implementations that the contract holds for.
var subjects = []struct {
	name string
	open func(t testing.TB, cfg *translatetest.Config) translatetest.Store
}{
	{"model", func(_ testing.TB, cfg *translatetest.Config) translatetest.Store { return translatetest.NewModel(cfg) }},
	{"store", func(t testing.TB, cfg *translatetest.Config) translatetest.Store {
		return translatetest.OpenReal(t, cfg)
	}},
}

func TestContract(t *testing.T) {
	for _, subject := range subjects {
		for _, row := range slices.Concat(mapRows, unmapRows, containerRows, accessRows) {
			t.Run(subject.name+"/"+row.name, func(t *testing.T) {
				runRow(t, subject.open(t, &row.cfg), row.steps)
			})
		}
	}
}

func runRow(t *testing.T, s translatetest.Store, steps []step) {
	translatetest.Check(t, s)
	for i, st := range steps {
		msg := fmt.Sprintf("step %d: %v", i, st)
		before := s.Mappings()
		err := runStep(t, s, st, msg)
		if st.want == nil {
			require.NoError(t, err, msg)
			continue
		}
		require.ErrorIs(t, err, st.want, msg)
		require.Equal(t, errs.Errno(st.want), errs.Errno(err), msg)
		if st.do == "read" || st.do == "write" || st.do == "check" {
			var pe *errs.ProgramError
			require.ErrorAs(t, err, &pe, msg)
			require.Equal(t, errs.Addr("iova", uint64(st.at), st.want).Error(), pe.Error(), msg)
		}
		require.Equal(t, before, s.Mappings(), "%s: an error changed the store", msg)
		require.NoError(t, s.Check(), msg)
	}
}

// runStep does one step. Its memory is nonsense for map (a row that reads or
// writes uses remote), because no rule of the table looks behind an address.
func runStep(t *testing.T, s translatetest.Store, st step, msg string) error {
	ctx := context.Background()
	access := st.access
	if access == 0 && !st.zero {
		access = rw
	}
	hva := st.hva
	if hva == 0 {
		hva = 0x7000_0000
	}
	pageSize := st.page
	if pageSize == 0 {
		pageSize = pg
	}
	size := func(n addr.Len, err error) error {
		if err != nil {
			require.Zero(t, n, "%s: an error and a size", msg)
		} else {
			require.Equal(t, st.size, n, msg)
		}
		return err
	}
	pattern := make([]byte, 0)
	if st.do == "read" || st.do == "write" {
		for i := range int(st.n) {
			pattern = append(pattern, byte(i)^byte(st.iova)|1)
		}
	}
	switch st.do {
	case "map":
		return s.Map(st.iova, st.n, translatetest.ProcessMemory(hva, nil), access)
	case "remote":
		return s.Map(st.iova, st.n, newRemote(min(st.n, mib)), access)
	case "unmap":
		return size(s.Unmap(ctx, st.iova, st.n))
	case "unmapall":
		return size(s.UnmapAll(ctx))
	case "suspend":
		return size(s.Suspend(ctx, st.iova, st.n))
	case "suspendall":
		return size(s.SuspendAll(ctx))
	case "resume":
		if st.hva == 0 && st.n <= mib {
			return s.Resume(st.iova, st.n, newRemote(st.n))
		}
		return s.Resume(st.iova, st.n, translatetest.ProcessMemory(hva, nil))
	case "start":
		return s.DirtyStart()
	case "stop":
		return s.DirtyStop()
	case "mark":
		s.MarkDirty(st.iova, st.n)
		return nil
	case "get", "clear", "unmapdirty":
		words := st.words
		if words == 0 {
			words = int(st.n/pageSize/64) + 1
		}
		bitmap := make([]uint64, words)
		for i := range bitmap {
			bitmap[i] = ^uint64(0) // the caller's bitmap need not be clean
		}
		var err error
		if st.do == "unmapdirty" {
			err = size(s.UnmapDirty(ctx, st.iova, st.n, pageSize, bitmap))
		} else {
			err = s.DirtyGet(st.iova, st.n, pageSize, bitmap, st.do == "clear")
		}
		if err == nil {
			require.Equal(t, st.bits, setBits(bitmap, int(st.n/pageSize)), msg)
		}
		return err
	case "read":
		return s.Read(st.iova, pattern)
	case "write":
		if err := s.Write(st.iova, pattern); err != nil {
			return err
		}
		got := make([]byte, len(pattern))
		if s.CheckAccess(st.iova, st.n, r) == nil {
			require.NoError(t, s.Read(st.iova, got), msg)
			require.Equal(t, pattern, got, msg)
		}
		return nil
	case "check":
		return s.CheckAccess(st.iova, st.n, access)
	case "lookup":
		run, ok := s.Lookup(st.iova)
		require.Equal(t, st.n != 0, ok, msg)
		if ok {
			require.Equal(t, st.size, run.Len, msg)
		}
		return nil
	case "avail":
		require.Equal(t, int(st.n), int(s.Info().DMAAvail), msg)
		return nil
	}
	t.Fatalf("%s: no such step", msg)
	return nil
}

func newRemote(n addr.Len) translatetest.Memory {
	return translatetest.RemoteMemory(translatetest.RAM(make([]byte, n)), translatetest.RAM(make([]byte, n)))
}

// setBits is the positions of the set bits among the first n.
func setBits(bitmap []uint64, n int) (set []int) {
	for i := range n {
		if bitmap[i/64]>>(i%64)&1 != 0 {
			set = append(set, i)
		}
	}
	return set
}

func TestContractInfo(t *testing.T) {
	for _, subject := range subjects {
		t.Run("A4: GET_INFO: page sizes, ranges, migration capability/"+subject.name, func(t *testing.T) {
			s := subject.open(t, &translatetest.Config{})
			require.Equal(t, translate.Info{
				PageSizes: ^addr.PageMask, DMAAvail: 65535, DirtyPageSizes: 1 << 12, MaxDirtyBitmap: 256 * mib,
			}, s.Info(), "no ranges: all (mdev-only container)")
			rs := ranges(0, 0xfedf_ffff, 0xfef0_0000, 0xff_ffff_ffff)
			sizes := uint64(1<<12 | 1<<21 | 1<<30)
			s = subject.open(t, &translatetest.Config{PageSizes: sizes, Ranges: rs, MaxMappings: 7})
			require.Equal(t, translate.Info{
				PageSizes: sizes, Ranges: rs, DMAAvail: 7, DirtyPageSizes: 1 << 12, MaxDirtyBitmap: 256 * mib,
			}, s.Info())
		})
		t.Run("A1: page sizes below 4 KiB are hidden, 4 KiB offered instead/"+subject.name, func(t *testing.T) {
			s := subject.open(t, &translatetest.Config{PageSizes: 1<<9 | 1<<21})
			require.Equal(t, uint64(1<<12|1<<21), s.Info().PageSizes)
			require.NoError(t, s.Map(0x1000, pg, translatetest.ProcessMemory(0x7000_0000, nil), rw))
			require.ErrorIs(t, s.Map(0x3000, 0x200, translatetest.ProcessMemory(0x7000_0000, nil), rw), errs.ErrMisaligned)
		})
	}
}
