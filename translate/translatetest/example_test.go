package translatetest_test

import (
	"fmt"

	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/softmdev/softmdev/translate/translatetest"
)

// A mediator that reads a count, checks it, and reads it again can be told
// another count the second time. Flip does so, and says where it was asked
// twice.
func ExampleFlip() {
	store, _ := translate.New(nil)
	flip := translatetest.NewFlip(0x7000, make([]byte, addr.PageSize))
	_ = store.Map(0x7000, addr.PageSize, translate.Remote(flip), addr.ReadWrite)
	reader := store.NewReader()

	request := func(fetches int) (count [2]byte) {
		flip.Reset()
		reader.Enter()
		defer reader.Exit()
		for range fetches {
			_ = reader.Read(0x7004, count[:])
		}
		return count
	}
	fmt.Println(request(1), flip.DoubleFetches())
	fmt.Println(request(2), flip.DoubleFetches())
	reader.Close()
	_ = store.Close()
	// Output:
	// [0 0] []
	// [1 1] [[0x7004, 0x7005]]
}
