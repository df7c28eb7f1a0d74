package ccwdev

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/softmdev/softmdev/ccw/unit"
)

// open3215 is a console that prints to a file, and at which the lines of a
// file, or of a named pipe for as long as the device exists, are typed.
func open3215(a *attrs) (Unit, error) {
	var cfg unit.Console3215Config
	var u Unit
	if err := a.openOutput(&u, &cfg.Output); err != nil {
		return Unit{}, err
	}
	attach(&u, &cfg.Attention)
	c := unit.NewConsole3215(&cfg)
	u.Device = c
	if a.input == "" {
		return u, nil
	}
	in, err := openInput(a.input)
	if err != nil {
		return Unit{}, errors.Join(fmt.Errorf("input: %w", err), u.close())
	}
	// Typing begins when there is a device to be told of it, and ends with
	// the input, at the latest when it is closed.
	var typist sync.WaitGroup
	printer := u // as it is now
	stop := make(chan struct{})
	u.Attach = func(f attention) {
		printer.Attach(f)
		typist.Go(func() { typeLines(c, in, stop) })
	}
	u.Close = func() error {
		close(stop)
		err := in.Close()
		typist.Wait()
		return errors.Join(err, printer.close())
	}
	return u, nil
}

// openInput opens a file to be typed. A named pipe is opened for writing as
// well, so that opening does not wait for a writer, nor reading end with one.
func openInput(path string) (*os.File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Mode()&os.ModeNamedPipe != 0 {
		return os.OpenFile(path, os.O_RDWR, 0)
	}
	return os.Open(path)
}

// patience is how long a typist waits at a console that takes no more lines.
const patience = 20 * time.Millisecond

// typeLines types what in holds, a line at a time, until stop.
func typeLines(c *unit.Console3215, in io.Reader, stop <-chan struct{}) {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 256), unit.MaxLine)
	for lines.Scan() {
		for line := unit.EBCDIC(lines.Text()); !c.Type(line); {
			select {
			case <-stop:
				return
			case <-time.After(patience):
			}
		}
	}
}
