package reg_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/reg"
)

// FuzzBank's oracle is a model that knows bits only, one at a time: after any
// accesses of software and device, every byte reads as the model's.
func FuzzBank(f *testing.F) {
	f.Add([]byte{0, 4, 2, 0xff, 0xff, 1, 6, 0xff, 0, 9, 1, 0x55, 2, 1})
	f.Add([]byte{0, 0, 32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 3, 2, 2})
	f.Fuzz(func(t *testing.T, ops []byte) {
		b, err := reg.New(0x20, table, nil)
		require.NoError(t, err)
		m := newModel()
		next := func() (v byte) {
			if len(ops) > 0 {
				v, ops = ops[0], ops[1:]
			}
			return v
		}
		for len(ops) > 0 {
			switch next() % 4 {
			case 0: // software writes
				off, p := int(next()%0x20), make([]byte, next()%0x21)
				p = p[:min(len(p), 0x20-off)]
				for i := range p {
					p[i] = next()
				}
				require.NoError(t, b.Write(uint64(off), p))
				m.write(off, p)
			case 1: // the device sets a register
				r := &table[int(next())%len(table)]
				var v [8]byte
				for i := range r.Width {
					v[i] = next()
				}
				value := binary.LittleEndian.Uint64(v[:])
				b.Put(r.Offset, value)
				m.put(r, value)
			case 2:
				kind := reg.ResetKind(next() % 3)
				b.Reset(kind)
				m.reset(kind)
			case 3: // software reads a part
				off, p := int(next()%0x20), make([]byte, next()%0x21)
				p = p[:min(len(p), 0x20-off)]
				require.NoError(t, b.Read(uint64(off), p))
				require.Equal(t, m.bytes()[off:off+len(p)], p)
			}
			all := make([]byte, 0x20)
			require.NoError(t, b.Read(0, all))
			require.Equal(t, m.bytes(), all)
		}
	})
}

// bit is one bit of the model.
type bit struct{ value, reset, write, w1c, live, keep, sticky bool }

type model [0x20 * 8]bit

func newModel() *model {
	m := new(model)
	for _, r := range table {
		for i := range 8 * uint32(r.Width) {
			is := func(mask uint64) bool { return mask>>i&1 != 0 }
			m[8*r.Offset+i] = bit{is(r.Reset), is(r.Reset), is(r.Write), is(r.W1C), is(r.Live), is(r.Keep), is(r.Sticky)}
		}
	}
	return m
}

func (m *model) write(off int, p []byte) {
	for i := range 8 * len(p) {
		one, b := p[i/8]>>(i%8)&1 != 0, &m[8*off+i]
		switch {
		case b.write:
			b.value = one
		case b.w1c && one:
			b.value = false
		}
	}
}

func (m *model) put(r *reg.Reg, value uint64) {
	for i := range 8 * uint32(r.Width) {
		if b := &m[8*r.Offset+i]; b.write || b.w1c || b.live {
			b.value = value>>i&1 != 0
		}
	}
}

func (m *model) reset(kind reg.ResetKind) {
	for i := range m {
		b := &m[i]
		if kind == reg.PowerOn || !b.sticky && !(kind == reg.Function && b.keep) {
			b.value = b.reset
		}
	}
}

func (m *model) bytes() []byte {
	p := make([]byte, 0x20)
	for i := range m {
		if m[i].value {
			p[i/8] |= 1 << (i % 8)
		}
	}
	return p
}
