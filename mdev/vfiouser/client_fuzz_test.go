//go:build linux

package vfiouser

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// hostile is a server that does what fuzzed bytes say: for each message of the
// client's one action, and when there are none left it hangs up.
type hostile struct {
	p    *rawPeer
	data []byte
	efds []int // to be sent along
}

// take is the next n bytes of the script, zeros behind its end.
func (h *hostile) take(n int) []byte {
	b := make([]byte, n)
	h.data = h.data[copy(b, h.data):]
	return b
}

func (h *hostile) serve() {
	defer h.p.close()
	for len(h.data) > 0 {
		m, err := h.p.recv()
		if err != nil {
			return
		}
		closeFDs(m.fds)
		for more := true; more; {
			var msg []byte
			msg, more = h.action(m)
			op := h.take(1)[0]
			if h.p.tryWrite(msg, h.efds[:op%4]...) != nil {
				return
			}
		}
	}
}

// action is what to send after m, and whether something is to follow at once.
func (h *hostile) action(m rawMsg) (msg []byte, more bool) {
	op := h.take(1)[0]
	n := int(h.take(1)[0])
	r := wire.Header{ID: m.ID, Command: m.Command, Flags: wire.TypeReply}
	switch op % 8 {
	case 0, 1: // a reply that begins as the request, and is changed in places
		body := append(append([]byte(nil), m.body...), make([]byte, n)...)
		if len(body) > 0 {
			for range op >> 4 {
				at := int(binary.NativeEndian.Uint16(h.take(2))) % len(body)
				body[at] = h.take(1)[0]
			}
		}
		if op&8 != 0 {
			body = body[:min(len(body), n)]
		}
		r.Size = uint32(wire.HeaderLen + len(body))
		return append(r.Append(nil), body...), false
	case 2: // a reply of the script
		body := h.take(n)
		r.Size = uint32(wire.HeaderLen + n)
		return append(r.Append(nil), body...), false
	case 3: // an error
		r.Size, r.Flags, r.Errno = wire.HeaderLen, r.Flags|wire.Error, binary.NativeEndian.Uint32(h.take(4))
		return r.Append(nil), false
	case 4: // a command of the server's
		body := h.take(n)
		c := wire.Header{ID: uint16(n), Command: wire.CmdDMARead + wire.Command(op>>4&1), Size: uint32(wire.HeaderLen + len(body))}
		if op&8 != 0 {
			a := wire.DMAAccess{Address: uint64(h.take(1)[0]) << 8, Count: uint64(h.take(1)[0])}
			body = a.Append(nil)
			if c.Command == wire.CmdDMAWrite {
				body = append(body, make([]byte, a.Count)...)
			}
			c.Size = uint32(wire.HeaderLen + len(body))
		}
		return append(c.Append(nil), body...), true
	case 5: // a header of the script
		x := wire.DecodeHeader((*[wire.HeaderLen]byte)(h.take(wire.HeaderLen)))
		x.Size %= 256
		return append(x.Append(nil), h.take(n)...), op&8 != 0
	case 6: // bytes
		return h.take(n), op&8 != 0
	}
	return nil, false // nothing
}

// FuzzClient's oracle: whatever a server sends, no call of the client panics,
// blocks or returns anything but a *CommandError; Close returns; the
// descriptors are those of before; nothing that was not mapped was written to.
func FuzzClient(f *testing.F) {
	seed := func(actions ...[]byte) {
		var b []byte
		for _, a := range actions {
			b = append(b, a...)
		}
		f.Add(b)
	}
	same, ok := []byte{0, 0, 0}, []byte{2, 0, 0}
	seed(same, same, same, same)
	seed(ok, ok, []byte{2, 16, 16, 0, 0, 0, 3, 0, 0, 0, 10, 0, 0, 0, 5, 0, 0, 0, 0})
	seed(same, []byte{4 | 8, 16, 0x10, 0x40, 0}, []byte{4 | 8 | 16, 0, 0x10, 0x40, 1}, same)
	seed(same, []byte{3, 0, 17, 0, 0, 0, 0}, same, []byte{7, 0, 0}, []byte{6, 8, 1, 2, 3, 4, 5, 6, 7, 8, 3})
	seed(same, []byte{5, 4, 1, 0, 9, 0, 36, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		leaves(t)
		p, fd := rawPair(t)
		ram := guestRAM(t, 0x3000)
		h := &hostile{p: p, data: data, efds: eventFDs(t, 3)}
		var wg sync.WaitGroup
		wg.Go(func() {
			// VERSION is proper, so that there is a client to be tried.
			m, err := p.recv()
			if err != nil {
				return
			}
			if p.tryWrite(frame(m.ID, m.Command, wire.TypeReply, versionBody(0, 0, `{"capabilities":{"max_data_xfer_size":64,"write_multiple":true}}`))) == nil {
				h.serve()
			}
		})
		defer wg.Wait()
		c, err := NewClient(bg(t), fd, &ClientConfig{Timeout: 10 * time.Millisecond, MaxDataXfer: 256})
		require.NoError(t, err)
		check := func(err error) {
			var ce *CommandError
			if err != nil && !errors.As(err, &ce) {
				t.Errorf("%T: %v", err, err)
			}
		}
		ctx := context.Background()
		check(c.MapDMA(ctx, 0x1000, 0x1000, addr.ReadWrite, translate.Bytes(ram[0x1000:0x2000])))
		check(c.MapDMAFD(ctx, 0x10000, 0x1000, addr.ReadWrite, memFile(t, 0x1000), 0))
		_, err = c.DeviceInfo(ctx)
		check(err)
		if r, err := c.RegionInfo(ctx, 2); err == nil && r.Memory != nil {
			r.Memory.Close()
		} else {
			check(err)
		}
		fds, err := c.RegionIOFDs(ctx, 0)
		check(err)
		CloseIOFDs(fds)
		_, err = c.IRQInfo(ctx, 2)
		check(err)
		check(c.SetIRQs(ctx, mdev.IRQRequest{Flags: mdev.DataNone | mdev.ActionTrigger}))
		buf := make([]byte, 100)
		check(c.Read(ctx, 0, 0, buf))
		check(c.Write(ctx, 0, 0, buf))
		check(c.PostWrite(ctx, 0, 0, buf[:4]))
		_, err = c.WriteMulti(ctx, make([]wire.MultiEntry, 3))
		check(err)
		_, err = c.Migration(ctx)
		check(err)
		_, err = c.MigrationState(ctx)
		check(err)
		if n, err := c.ReadMigration(ctx, buf); n > len(buf) {
			t.Errorf("%d of %d, %v", n, len(buf), err)
		}
		check(c.WriteMigration(ctx, buf[:5]))
		check(c.ProbeFeature(ctx, wire.FeatureMigration, wire.FeatureGet))
		pl := c.Pipeline(ctx)
		pl.Read(0, 0, buf[:8])
		pl.UnmapDMA(0x10000, 0x1000)
		pl.PostWrite(0, 0, buf[:8])
		check(pl.Wait())
		check(c.UnmapDMADirty(ctx, 0x1000, 0x1000, 4096, make([]uint64, 1)))
		check(c.Reset(ctx))
		check(c.UnmapAllDMA(ctx))
		require.NoError(t, c.Close())
		for _, b := range append(ram[:0x1000:0x1000], ram[0x2000:]...) {
			if b != 0 {
				t.Fatal("memory that was not mapped is written")
			}
		}
	})
}
