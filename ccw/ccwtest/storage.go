package ccwtest

import (
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Area is a part of the guest's storage and what a device may do with it.
type Area struct {
	addr.Range[addr.IOVA]
	Access addr.Access
}

// Areas is the storage of every guest here. It has the edges that matter: a
// read-only part, a part that is missing, the ends of what the two CCW formats
// and format-1 IDAWs can name, and something beyond them.
var Areas = []Area{
	{addr.MustRange(addr.IOVA(0), 64<<10), addr.ReadWrite},
	{addr.MustRange(addr.IOVA(64<<10), 16<<10), addr.Read},
	// 80 KiB to 96 KiB: nothing
	{addr.MustRange(addr.IOVA(96<<10), 32<<10), addr.ReadWrite},
	{addr.MustRange(addr.IOVA(128<<10), 8<<10), addr.Write},
	{addr.MustRange(addr.IOVA(16<<20-8<<10), 16<<10), addr.ReadWrite},
	{addr.MustRange(addr.IOVA(1<<31-8<<10), 16<<10), addr.ReadWrite},
	{addr.MustRange(addr.IOVA(1<<40), 16<<10), addr.ReadWrite},
}

// Storage is the memory of a guest, laid out as [Areas].
type Storage struct {
	mem []([]byte)
	// What a direct run touched, a byte each; see [Storage.changesItself].
	early, written []([]bool)
}

// NewStorage is storage filled with a byte that makes no sense as a program.
func NewStorage() *Storage {
	s := &Storage{}
	for _, a := range Areas {
		n, _ := a.Len()
		b := make([]byte, n)
		for i := range b {
			b[i] = 0xA5
		}
		s.mem = append(s.mem, b)
		s.early = append(s.early, make([]bool, n))
		s.written = append(s.written, make([]bool, n))
	}
	return s
}

// Clone is a copy of s of which nothing was touched.
func (s *Storage) Clone() *Storage {
	c := NewStorage()
	for i := range s.mem {
		copy(c.mem[i], s.mem[i])
	}
	return c
}

// Bytes is the storage of area i.
func (s *Storage) Bytes(i int) []byte { return s.mem[i] }

// At is the storage from address a on, up to the end of its area; nil where
// there is none.
func (s *Storage) At(a addr.IOVA) []byte {
	for i, ar := range Areas {
		if ar.Contains(a) {
			return s.mem[i][a-ar.Start():]
		}
	}
	return nil
}

// Map maps all areas into st. The store keeps referring to s.
func (s *Storage) Map(st *translate.Store) error {
	for i, a := range Areas {
		n, _ := a.Len()
		if err := st.Map(a.Start(), n, translate.Bytes(s.mem[i]), a.Access); err != nil {
			return err
		}
	}
	return nil
}

// Direct is storage as the memory of a channel subsystem that runs one of the
// guest's programs without a translator: host addresses are the guest's.
type Direct struct {
	*Storage
	orb  cio.ORB
	code bool // a CCW is being fetched
}

// Fetching is channel.Config.Fetching.
func (d *Direct) Fetching(bool) { d.code = true }

// Read is channel.Memory.
func (d *Direct) Read(a addr.HPA, p []byte) error {
	// A translator may read parts of the program before hardware does: with
	// prefetch all of it, and a list together with its CCW in any case. What
	// may be the word of a list counts as one.
	early := d.code && d.orb.Prefetch() || !d.code && (len(p) == cio.IDAW1Size || len(p) == cio.IDAW2Size || len(p) == cio.MIDAWSize)
	err := d.access(a, p, addr.Read, early)
	if d.code && len(p) == cio.CCWSize {
		d.code = cio.DecodeCCW((*[cio.CCWSize]byte)(p), d.orb.Format1()).Command.IsTIC(d.orb.Format1())
	}
	return err
}

// Write is channel.Memory.
func (d *Direct) Write(a addr.HPA, p []byte) error { return d.access(a, p, addr.Write, false) }

// Check is channel.Checker.
func (d *Direct) Check(a addr.HPA, n addr.Len, want addr.Access) error {
	r, ok := addr.RangeOf(addr.IOVA(a), n)
	if !ok {
		return errs.Addr("hpa", uint64(a), errs.ErrOverflow)
	}
	for at := r.Start(); ; {
		i := d.area(at)
		if i < 0 {
			return errs.Addr("hpa", uint64(at), errs.ErrNotMapped)
		}
		if !Areas[i].Access.Allows(want) {
			return errs.Addr("hpa", uint64(at), errs.ErrPermission)
		}
		if Areas[i].Last() >= r.Last() {
			return nil
		}
		at = Areas[i].Last() + 1
	}
}

func (s *Storage) area(a addr.IOVA) int {
	for i := range Areas {
		if Areas[i].Contains(a) {
			return i
		}
	}
	return -1
}

func (d *Direct) access(a addr.HPA, p []byte, want addr.Access, early bool) error {
	if err := d.Check(a, addr.Len(len(p)), want); err != nil {
		return err
	}
	for k := range p {
		at := addr.IOVA(a) + addr.IOVA(k)
		i := d.area(at)
		off := at - Areas[i].Start()
		if want == addr.Read {
			p[k] = d.mem[i][off]
			d.early[i][off] = d.early[i][off] || early
		} else {
			d.mem[i][off], d.written[i][off] = p[k], true
		}
	}
	return nil
}

// changesItself reports whether a run stored into what a translator may have
// read before: the result depends on when it does.
func (s *Storage) changesItself() bool {
	for i := range s.early {
		for k := range s.early[i] {
			if s.early[i][k] && s.written[i][k] {
				return true
			}
		}
	}
	return false
}
