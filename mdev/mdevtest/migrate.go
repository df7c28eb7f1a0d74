package mdevtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/softmdev/softmdev/mdev/errs"
)

// The fake device's state is a sequence of records, each a kind byte, a length
// (8 bytes, little-endian) and that many bytes: any number of precopies, whose
// bytes mean nothing, then one with the contents of all regions.
const (
	recordPreCopy = 'p'
	recordState   = 's'
)

// PreCopy implements mdev.PreCopier.
func (d *Device) PreCopy(ctx context.Context, w io.Writer) error {
	defer d.streaming("precopy")()
	d.mu.Lock()
	state := bytes.Join(d.mem, nil)
	d.mu.Unlock()
	return writeRecord(ctx, w, recordPreCopy, state)
}

// Save implements mdev.Migrator.
func (d *Device) Save(ctx context.Context, w io.Writer) error {
	defer d.streaming("save")()
	if err := d.Fault.Hit("device: save"); err != nil {
		return err
	}
	d.mu.Lock()
	state := bytes.Join(d.mem, nil)
	d.mu.Unlock()
	return writeRecord(ctx, w, recordState, state)
}

func writeRecord(ctx context.Context, w io.Writer, kind byte, p []byte) error {
	head := binary.LittleEndian.AppendUint64([]byte{kind}, uint64(len(p)))
	if _, err := w.Write(head); err != nil {
		return err
	}
	for len(p) > 0 { // in pieces, as a device would
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := w.Write(p[:min(len(p), 1000)])
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// Load implements mdev.Migrator.
func (d *Device) Load(ctx context.Context, r io.Reader) error {
	defer d.streaming("load")()
	if err := d.Fault.Hit("device: load"); err != nil {
		return err
	}
	d.mu.Lock()
	state := bytes.Join(d.mem, nil)
	d.mu.Unlock()
	for {
		var head [9]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return fmt.Errorf("fake device state ends: %w: %w", errs.ErrInvalid, err)
		}
		n := binary.LittleEndian.Uint64(head[1:])
		if n != uint64(len(state)) || head[0] != recordPreCopy && head[0] != recordState {
			return fmt.Errorf("fake device state: record %#x of %d bytes: %w", head[0], n, errs.ErrInvalid)
		}
		if _, err := io.ReadFull(r, state); err != nil {
			return fmt.Errorf("fake device state ends: %w: %w", errs.ErrInvalid, err)
		}
		if head[0] == recordState {
			break
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.mem {
		state = state[copy(d.mem[i], state):]
	}
	return nil
}
