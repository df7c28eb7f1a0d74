package ccwdev

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/dasd"
	"github.com/softmdev/softmdev/ccw/fba"
	"github.com/softmdev/softmdev/ccw/unit"
	"github.com/softmdev/softmdev/internal/filelock"
	"github.com/softmdev/softmdev/mdev/errs"
)

// openImage opens a file to be read. Nothing else is an image, and opening a
// named pipe would wait until somebody writes to it.
func openImage(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file: %w", path, errs.ErrInvalid)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("image: %w", err), f.Close())
	}
	return f, nil
}

// lockImage keeps every other device from the image at path, or, of one that
// is only read, from writing it. Closing what it returns ends that.
func lockImage(path string, readOnly bool) (io.Closer, error) {
	f, err := openImage(path)
	if err != nil {
		return nil, err
	}
	if err := filelock.Lock(f, readOnly); err != nil {
		return nil, errors.Join(fmt.Errorf("image: %w", err), f.Close())
	}
	return f, nil
}

// closers closes all, the last first.
func closers(list ...io.Closer) func() error {
	return func() error {
		var err error
		for i := len(list) - 1; i >= 0; i-- {
			err = errors.Join(err, list[i].Close())
		}
		return err
	}
}

// badImage is an error about an image that cannot be used.
func badImage(err error) error {
	if errors.Is(err, errs.ErrInvalid) {
		return fmt.Errorf("image: %w", err)
	}
	return fmt.Errorf("image: %w: %w", err, errs.ErrInvalid)
}

func open3390(a *attrs) (Unit, error) {
	lock, err := lockImage(a.image, a.readOnly)
	if err != nil {
		return Unit{}, err
	}
	img, err := dasd.OpenFile(a.image, &dasd.FileConfig{ReadOnly: a.readOnly})
	if err != nil {
		return Unit{}, errors.Join(badImage(err), lock.Close())
	}
	v, err := dasd.Open(img, &dasd.Config{DeviceNumber: a.devno})
	if err != nil {
		return Unit{}, errors.Join(badImage(fmt.Errorf("%s: %w", a.image, err)), img.Close(), lock.Close())
	}
	return Unit{Device: v, SystemReset: v.SystemReset, Close: closers(lock, v)}, nil
}

func openFBA(a *attrs) (Unit, error) {
	lock, err := lockImage(a.image, a.readOnly)
	if err != nil {
		return Unit{}, err
	}
	img, err := fba.OpenFile(a.image, a.readOnly)
	if err != nil {
		return Unit{}, errors.Join(badImage(err), lock.Close())
	}
	v, err := fba.Open(img, nil)
	if err != nil {
		return Unit{}, errors.Join(badImage(fmt.Errorf("%s: %w", a.image, err)), img.Close(), lock.Close())
	}
	return Unit{Device: v, Close: closers(lock, img)}, nil
}

func open3490(a *attrs) (Unit, error) {
	cfg := unit.TapeConfig{Model: unit.Tape3490, Serial: uint32(a.devno)}
	var u Unit
	if a.image != "" {
		lock, err := lockImage(a.image, a.readOnly)
		if err != nil {
			return Unit{}, err
		}
		if cfg.Cartridge, err = unit.OpenCartridge(a.image, a.readOnly); err != nil {
			return Unit{}, errors.Join(badImage(err), lock.Close())
		}
		u.Close = closers(lock, cfg.Cartridge)
	}
	attach(&u, &cfg.Attention)
	t, err := unit.NewTape(&cfg)
	if err != nil {
		return Unit{}, errors.Join(fmt.Errorf("tape: %w", err), u.close())
	}
	u.Device = t
	return u, nil
}

func open3505(a *attrs) (Unit, error) {
	cfg := unit.ReaderConfig{SenseID: true}
	var u Unit
	if a.image != "" {
		f, err := openImage(a.image)
		if err != nil {
			return Unit{}, err
		}
		cfg.Cards, u.Close = f, f.Close
	}
	attach(&u, &cfg.Attention)
	u.Device = unit.NewReader(&cfg)
	return u, nil
}

func open1403(a *attrs) (Unit, error) {
	cfg := unit.PrinterConfig{SenseID: true}
	var u Unit
	if err := a.openOutput(&u, &cfg.Output); err != nil {
		return Unit{}, err
	}
	p, err := unit.NewPrinter(&cfg)
	if err != nil {
		return Unit{}, errors.Join(fmt.Errorf("printer: %w", err), u.close())
	}
	u.Device = p
	return u, nil
}

// openOutput appends what u prints to the file of the attribute, as text. A
// named pipe that nobody reads is an error: opening it would wait.
func (a *attrs) openOutput(u *Unit, w *io.Writer) error {
	if a.output == "" {
		return nil
	}
	f, err := os.OpenFile(a.output, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o644)
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	*w, u.Close = unit.TextWriter(f), f.Close
	return nil
}

// attention tells a system of unsolicited status.
type attention = func(cio.DeviceStatus)

// attach makes where the place at which the unit tells of unsolicited status.
// Nothing is told before the unit is attached.
func attach(u *Unit, where *attention) {
	var tell attention
	*where = func(s cio.DeviceStatus) {
		if tell != nil {
			tell(s)
		}
	}
	u.Attach = func(f attention) { tell = f }
}
