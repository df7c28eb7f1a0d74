//go:build linux && amd64 && !race

package translate

import (
	"sync"

	"golang.org/x/sys/unix"
)

// fastSections: readers may write their state word with plain stores.
// Required: stores become visible in program order and loads are not moved
// before earlier loads (amd64), and membarrier(2). Under the race detector,
// which knows neither, sections use atomic stores.
const fastSections = true

// linux/membarrier.h
const (
	membarrierPrivateExpedited         = 1 << 3
	membarrierRegisterPrivateExpedited = 1 << 4
)

// registerBarrier tells the kernel, once per process, that it will be asked
// for barriers, and reports whether it can be.
var registerBarrier = sync.OnceValue(func() bool {
	_, _, errno := unix.RawSyscall(unix.SYS_MEMBARRIER, membarrierRegisterPrivateExpedited, 0, 0)
	return errno == 0
})

// barrier makes every running thread of the process execute a full memory
// barrier before it returns. It cannot fail once registered.
func barrier() {
	if _, _, errno := unix.RawSyscall(unix.SYS_MEMBARRIER, membarrierPrivateExpedited, 0, 0); errno != 0 {
		panic("translate: membarrier: " + errno.Error())
	}
}

// release32 stores v where readers see it, after all stores before it. On this
// machine every store is that; the atomic store of the language is an exchange
// of 5 ns, which an unmap and a map would pay ten times.
func release32(p *uint32, v uint32) { *p = v }

// release64 is release32 of 64 bits.
func release64(p *uint64, v uint64) { *p = v }
