package iommu

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Random grants on windows and frames, random accesses by two devices: an
// access goes through exactly if a map of granted pages allows every byte of
// it, it moves the right bytes, and whatever is refused is counted.
func TestDomainModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layout := rapid.SampledFrom([]Layout{Contiguous, Scattered}).Draw(t, "layout")
		s := NewSpace(&Config{Layout: layout, Seed: rapid.Uint64().Draw(t, "seed")})
		devs := [2]*Domain{s.NewDomain("a"), s.NewDomain("b")}
		refused := [2]uint64{}
		// may is the model: what a device may do with a page, in counts.
		type key struct {
			dev int
			hpa addr.HPA
		}
		reads, writes := map[key]int{}, map[key]int{}
		behind := map[addr.HPA][]byte{} // memory of each page

		type target struct {
			r     *Reach
			dev   int
			pages []addr.HPA
		}
		var targets []target
		var hpas []addr.HPA
		for _, first := range []uint64{0, 30} {
			const n = 40
			mem := pageAligned(n << 12)
			w, err := s.NewWindow(first, n, Backing{HVA: hvaOf(mem) - addr.HVA(first<<12), Stable: true})
			require.NoError(t, err)
			for dev, d := range devs {
				for i := range w.Blocks() {
					r, err := d.NewReach(w, i)
					require.NoError(t, err)
					x := target{r: r, dev: dev}
					for pg := range uint64(BlockPages) {
						x.pages = append(x.pages, r.HPA(pg))
						if w.pagesOf(i)>>pg&1 != 0 {
							at := int(i*BlockPages+pg-first) << 12
							behind[r.HPA(pg)] = mem[at : at+4096]
							hpas = append(hpas, r.HPA(pg))
						}
					}
					targets = append(targets, x)
				}
			}
		}
		frames := [2]*Frames{}
		for i := range frames {
			f, err := s.Alloc(3*page, 1<<31)
			require.NoError(t, err)
			frames[i] = f
			for j := range addr.HPA(3) {
				behind[f.HPA+j<<12] = f.Mem[j<<12 : (j+1)<<12]
				hpas = append(hpas, f.HPA+j<<12)
			}
		}
		type grant struct {
			x      int
			pages  uint32
			access addr.Access
		}
		var grants []grant
		count := func(g grant, n int) {
			for pg, hpa := range targets[g.x].pages {
				if g.pages>>pg&1 != 0 {
					k := key{targets[g.x].dev, hpa}
					if g.access.Allows(addr.Read) {
						reads[k] += n
					}
					if g.access.Allows(addr.Write) {
						writes[k] += n
					}
				}
			}
		}
		genAccess := rapid.SampledFrom([]addr.Access{addr.Read, addr.Write, addr.ReadWrite})
		t.Repeat(map[string]func(*rapid.T){
			"grant": func(t *rapid.T) {
				x := rapid.IntRange(0, len(targets)-1).Draw(t, "target")
				r := targets[x].r
				g := grant{x, rapid.Uint32().Draw(t, "pages") & r.window.pagesOf(r.index), genAccess.Draw(t, "access")}
				r.Grant(g.pages, g.access)
				grants = append(grants, g)
				count(g, 1)
			},
			"revoke": func(t *rapid.T) {
				if len(grants) == 0 {
					t.Skip("nothing is granted")
				}
				i := rapid.IntRange(0, len(grants)-1).Draw(t, "grant")
				g := grants[i]
				grants = append(grants[:i], grants[i+1:]...)
				targets[g.x].r.Revoke(g.pages, g.access)
				devs[targets[g.x].dev].Quiesce()
				count(g, -1)
			},
			"frames": func(t *rapid.T) {
				f, dev := frames[rapid.IntRange(0, 1).Draw(t, "frames")], rapid.IntRange(0, 1).Draw(t, "dev")
				access := addr.Access(0)
				if rapid.Bool().Draw(t, "revoke") {
					devs[dev].RevokeFrames(f)
				} else {
					access = genAccess.Draw(t, "access")
					require.NoError(t, devs[dev].GrantFrames(f, access))
				}
				for j := range addr.HPA(3) {
					reads[key{dev, f.HPA + j<<12}] = int(access & addr.Read)
					writes[key{dev, f.HPA + j<<12}] = int(access&addr.Write) >> 1
				}
			},
			"access": func(t *rapid.T) {
				dev := rapid.IntRange(0, 1).Draw(t, "dev")
				at := rapid.SampledFrom(hpas).Draw(t, "page") + addr.HPA(rapid.IntRange(-8, 4100).Draw(t, "offset"))
				p := make([]byte, rapid.SampledFrom([]int{1, 8, 600, 4096, 9000}).Draw(t, "n"))
				write := rapid.Bool().Draw(t, "write")
				allowed, want := true, []byte(nil)
				var kind error
				for a := addr.PageOf(at); a < at+addr.HPA(len(p)); a += addr.HPA(page) {
					k := key{dev, a}
					if ok := write && writes[k] > 0 || !write && reads[k] > 0; !ok && allowed {
						allowed, kind = false, errs.ErrReach
						if reads[k]+writes[k] > 0 {
							kind = errs.ErrPermission
						}
					}
					want = append(want, behind[a]...)
				}
				var err error
				if write {
					b := rapid.Byte().Draw(t, "byte")
					for i := range p {
						p[i] = b + byte(i)
					}
					err = devs[dev].Write(at, p)
				} else {
					err = devs[dev].Read(at, p)
				}
				if !allowed {
					refused[dev]++
					require.ErrorIs(t, err, kind)
				} else {
					require.NoError(t, err)
					if write {
						want = nil
						for a := addr.PageOf(at); a < at+addr.HPA(len(p)); a += addr.HPA(page) {
							want = append(want, behind[a]...)
						}
					}
					off := addr.PageOffset(at)
					require.Equal(t, want[off:off+addr.Len(len(p))], p)
				}
				require.Equal(t, refused[dev], devs[dev].FaultCount())
			},
		})
	})
}
