package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
)

// Where things are for the guest.
const (
	ramSize    = 4 << 20
	configBase = 0xb0000000 // configuration space of the device (ECAM)
	configSize = 4 << 10
	windowBase = 0xe0000000 // where the guest puts BARs
	messageAt  = 0xfee00000 // where a message is an interrupt
)

// cpu is a virtual CPU. It runs guest code until that touches something other
// than memory, and then leaves to the VMM.
type cpu struct {
	ram        []byte
	console    io.Writer
	exits      chan exit
	interrupts chan uint32   // numbers, as the message said
	done       chan error    // the guest halts
	off        chan struct{} // closed: the power is off
}

// exit is why a virtual CPU has left: an access that the VMM is to do.
type exit struct {
	at    uint64
	write bool
	data  []byte // written, or to be filled
	ready chan struct{}
}

func newCPU(ram []byte, console io.Writer) *cpu {
	return &cpu{
		ram: ram, console: console,
		exits: make(chan exit), interrupts: make(chan uint32, 64), done: make(chan error, 1), off: make(chan struct{}),
	}
}

// boot runs the guest until it halts, or the power goes.
func (c *cpu) boot() { c.done <- (&guest{c}).main() }

// read and write are the guest's loads and stores outside memory.
func (c *cpu) read(at uint64, width int) uint64 {
	var p [8]byte
	c.leave(exit{at: at, data: p[:width]})
	return binary.LittleEndian.Uint64(p[:])
}

func (c *cpu) write(at uint64, width int, value uint64) {
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], value)
	c.leave(exit{at: at, write: true, data: p[:width]})
}

func (c *cpu) leave(x exit) {
	x.ready = make(chan struct{})
	select {
	case c.exits <- x:
		<-x.ready
	case <-c.off:
		runtime.Goexit()
	}
}

// print is the guest's console.
func (c *cpu) print(format string, a ...any) { fmt.Fprintf(c.console, "guest: "+format+"\n", a...) }
