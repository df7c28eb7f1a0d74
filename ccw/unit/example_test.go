package unit_test

import (
	"fmt"
	"os"
	"strings"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/internal/devicetest"
	"github.com/softmdev/softmdev/ccw/unit"
)

// execute runs a program of one CCW and prints how it ended.
func execute(dev channel.Device, cmd cio.Command, data []byte) {
	mem := devicetest.NewMemory(1 << 20)
	ccw := cio.CCW{Command: cmd, Flags: cio.SuppressLength, Count: uint16(len(data)), Addr: 0x2000}.Encode1()
	_, _ = mem.Write(0x1000, ccw[:]), mem.Write(0x2000, data)
	sub := channel.New(mem, dev, devicetest.PMCW(0x009), nil)
	var orb cio.ORB
	orb.SetFormat1(true)
	orb.SetLPM(0x80)
	orb.SetProgram(0x1000)
	sub.Start(&orb)
	var irb cio.IRB
	sub.Test(&irb)
	_ = mem.Read(0x2000, data)
	fmt.Println(irb.SCSW.Device(), irb.SCSW.Count())
}

// A program prints on a console and reads what the operator typed.
func ExampleConsole3215() {
	con := unit.NewConsole3215(&unit.Console3215Config{
		Output:    unit.TextWriter(os.Stdout),
		Attention: func(d cio.DeviceStatus) { fmt.Println("interruption:", d) },
	})
	execute(con, 0x09, unit.EBCDIC("login:"))
	con.Type(unit.EBCDIC("root"))
	line := make([]byte, 10)
	execute(con, 0x0A, line)
	fmt.Println(unit.Text(line[:4]))
	// Output:
	// login:
	// CE|DE 0
	// interruption: ATTN
	// CE|DE 6
	// root
}

// Cards of 80 columns, one for each read; then unit exception.
func ExampleReader() {
	card := strings.Repeat("=", unit.CardSize)
	rdr := unit.NewReader(&unit.ReaderConfig{Cards: strings.NewReader(card)})
	execute(rdr, 0x02, make([]byte, 80))
	execute(rdr, 0x02, make([]byte, 80))
	// Output:
	// CE|DE 0
	// CE|DE|UX 80
}

// A printed line, and the next form.
func ExamplePrinter() {
	prt, err := unit.NewPrinter(&unit.PrinterConfig{Output: unit.TextWriter(os.Stdout)})
	if err != nil {
		fmt.Println(err)
		return
	}
	execute(prt, 0x11, unit.EBCDIC("TOTAL"))
	fmt.Println("line", prt.Line())
	// Output:
	// TOTAL
	//
	// CE|DE 0
	// line 3
}

// A block and a tape mark, in AWSTAPE format.
func ExampleTape() {
	cartridge := unit.NewCartridge(0)
	tape, err := unit.NewTape(&unit.TapeConfig{Model: unit.Tape3490, Cartridge: cartridge})
	if err != nil {
		fmt.Println(err)
		return
	}
	execute(tape, 0x01, []byte("block"))
	execute(tape, 0x1F, nil)
	var image strings.Builder
	if _, err := cartridge.WriteTo(&image); err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%q\n", image.String())
	// Output:
	// CE|DE 0
	// CE|DE 0
	// "\x05\x00\x00\x00\xa0\x00block\x00\x00\x05\x00@\x00"
}

// A program draws a screen, the operator answers.
func ExampleDisplay3270() {
	dsp, err := unit.NewDisplay3270(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	form := append([]byte{0xC3, 0x1D, 0xF0}, unit.EBCDIC("Name:")...)
	execute(dsp, 0x05, append(form, 0x1D, 0x40, 0x13))
	dsp.Type(unit.EBCDIC("Ada"))
	dsp.Press(unit.AIDEnter)
	fmt.Println(strings.TrimSpace(dsp.Screen()))
	in := make([]byte, 20)
	execute(dsp, 0x06, in)
	fmt.Printf("% x\n", in[:9])
	// Output:
	// CE|DE 0
	// Name: Ada
	// CE|DE 11
	// 7d 40 4a 11 40 c7 c1 84 81
}
