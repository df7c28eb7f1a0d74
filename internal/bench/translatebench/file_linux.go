package translatebench

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/internal/bench"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// fileBenchmarks are unmaps and maps of a page of a file, as a client with an
// IOMMU of its own asks for them, compared with the munmap and mmap that each
// would cost by itself.
func fileBenchmarks() []bench.Benchmark {
	const prefix = "translate/file-pair/"
	list := []bench.Benchmark{
		{Name: prefix + "mmap", Metric: bench.CPU, Run: mmapPairs},
		{Name: prefix + "store", Baseline: prefix + "mmap", Metric: bench.CPU, Run: func(b *testing.B) { filePairs(b, 4096) }},
		{Name: prefix + "store-last", Baseline: prefix + "mmap", Metric: bench.CPU, Run: func(b *testing.B) { filePairs(b, 0) }},
	}
	return list
}

const fileSize = 1 << 30

func memfd(b *testing.B) int {
	fd, err := unix.MemfdCreate("translatebench", unix.MFD_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Ftruncate(fd, fileSize); err != nil {
		b.Fatal(err)
	}
	return fd
}

func mmapPairs(b *testing.B) {
	fd := memfd(b)
	bench.Timed(b, batch, func() {
		for i := range batch {
			mem, err := unix.Mmap(fd, int64(i)<<addr.PageShift, int(addr.PageSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				b.Fatal(err)
			}
			if err := unix.Munmap(mem); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// filePairs changes one mapping while others of the file stay.
func filePairs(b *testing.B, others int) {
	fd := memfd(b)
	s, err := translate.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	add := func(i int) {
		at := addr.IOVA(i) * 2 << addr.PageShift
		if err := s.Map(at, addr.PageSize, translate.File(fd, int64(i)<<addr.PageShift), addr.ReadWrite); err != nil {
			b.Fatal(err)
		}
	}
	for i := range others {
		add(i)
	}
	i := others
	add(i)
	ctx := context.Background()
	bench.Timed(b, batch, func() {
		for range batch {
			if _, err := s.Unmap(ctx, addr.IOVA(i)*2<<addr.PageShift, addr.PageSize); err != nil {
				b.Fatal(err)
			}
			i = others + (i+1)%4096
			add(i)
		}
	})
}
