package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Example() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Println(err)
	}
	// Output:
	// guest: PCI device 6d64:0001
	// guest: BAR 0: 4 KiB at 0xe0000000
	// guest: BAR 1: 16 KiB at 0xe0004000
	// guest: BAR 2: 64 KiB at 0xe0010000
	// guest: copied 43 bytes: "the quick brown fox jumps over the lazy dog"
	// guest: CRC-32 ce0c5114, and by the processor ce0c5114
	// guest: a copy beyond memory: status 0x160002
	// guest: memory's last byte is 0
}

// A VMM that is told to stop stops.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, run(ctx, io.Discard), context.Canceled)
}
