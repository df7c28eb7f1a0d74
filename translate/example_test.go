package translate_test

import (
	"context"
	"fmt"

	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// A guest's memory is mapped, a worker reads a descriptor from it, the guest
// takes it away again.
func Example() {
	store, err := translate.New(nil)
	if err != nil {
		panic(err)
	}
	ram := make([]byte, 1<<20)
	copy(ram[0x2000:], "descriptor")
	if err := store.Map(0x10_0000, addr.Len(len(ram)), translate.Bytes(ram), addr.Read); err != nil {
		panic(err)
	}

	r := store.NewReader() // one per worker
	defer r.Close()
	p := make([]byte, 10)
	r.Enter() // one section per request
	fmt.Println(r.Read(0x10_2000, p), string(p))
	fmt.Println(r.Write(0x10_2000, p))
	r.Exit()

	n, err := store.Unmap(context.Background(), 0x10_0000, addr.Len(len(ram)))
	fmt.Println(n, err)
	fmt.Println(r.Read(0x10_2000, p))
	// Output:
	// <nil> descriptor
	// iova 0x102000: access not permitted
	// 0x100000 <nil>
	// iova 0x102000: not mapped
}

// A batch replaces memory without a moment in which it is missing, or does
// nothing at all.
func ExampleStore_Apply() {
	store, err := translate.New(nil)
	if err != nil {
		panic(err)
	}
	old, next := translate.Bytes(make([]byte, 0x2000)), translate.Bytes(make([]byte, 0x1000))
	fmt.Println(store.Map(0x4000, 0x2000, old, addr.ReadWrite))
	ctx := context.Background()
	fmt.Println(store.Apply(ctx,
		translate.UnmapOp(0x4000, 0x2000),
		translate.MapOp(0x4000, 0x1000, next, addr.ReadWrite),
		translate.MapOp(0x4000, 0x1000, next, addr.ReadWrite)))
	fmt.Println(store.Apply(ctx,
		translate.UnmapOp(0x4000, 0x2000),
		translate.MapOp(0x4000, 0x1000, next, addr.Read),
		translate.MapOp(0x5000, 0x1000, next, addr.ReadWrite)))
	for m := range store.Mappings() {
		fmt.Println(m.Range, m.Access)
	}
	// Output:
	// <nil>
	// op 2: iova 0x4000: already exists
	// <nil>
	// [0x4000, 0x4fff] r-
	// [0x5000, 0x5fff] rw
}
