package mdevctl_test

import (
	"fmt"
	"os"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/mdev/mdevctl"
)

// Define a device and list what is defined, as mdevctl would.
func Example() {
	root, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(root)
	dir := mdevctl.Dir(root) // an operator's is mdevctl.DefaultRoot

	err := dir.Define(&mdevctl.Definition{
		UUID:   uuid.MustParse("83c32df7-d52e-4ec1-9668-1f3c7e4df107"),
		Parent: "demo",
		Config: mdevctl.Config{Type: "demo", Auto: true, Attrs: []mdevctl.Attr{{Name: "mmap", Value: "on"}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	all, bad, err := dir.List(mdevctl.Filter{})
	fmt.Println(len(bad), err)
	for _, d := range all {
		if err := d.WriteText(os.Stdout, mdevctl.Unmarked, true); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(string(mdevctl.DumpOne(all)))
	// Output:
	// 0 <nil>
	// 83c32df7-d52e-4ec1-9668-1f3c7e4df107 demo demo auto
	//   Attrs:
	//     @{0}: {"mmap":"on"}
	// {
	//   "mdev_type": "demo",
	//   "start": "auto",
	//   "attrs": [
	//     {
	//       "mmap": "on"
	//     }
	//   ]
	// }
}
