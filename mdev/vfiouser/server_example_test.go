//go:build linux

package vfiouser_test

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser"
)

// A server serves a device on a socket that is connected already, as a VMM hands
// it over with --fd, until the client is gone.
func ExampleServer_ServeConn() {
	ctx := context.Background()
	s, err := vfiouser.NewServer(vfiouser.OpenDevice(&register{}), &vfiouser.ServerConfig{
		Session: mdev.SessionConfig{Name: "register"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error)
	go func() { served <- s.ServeConn(ctx, pair[0]) }()

	c, err := vfiouser.NewClient(ctx, pair[1], nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Write(ctx, 0, 0, []byte("4711")))
	value := make([]byte, 4)
	fmt.Println(c.Read(ctx, 0, 0, value), string(value))
	fmt.Println(c.Read(ctx, 0, 2, value))
	fmt.Println(s.Session().Name(), s.Session().State())
	c.Close()

	fmt.Println("client gone:", <-served)
	for _, x := range s.Stats().Current.Commands {
		fmt.Println(x.Command, x.Messages, x.Errors)
	}
	// Output:
	// <nil>
	// <nil> 4711
	// REGION_READ region 0 offset 0x2 count 4: refused: invalid argument
	// register open
	// client gone: <nil>
	// VERSION 1 0
	// REGION_READ 2 1
	// REGION_WRITE 1 0
}
