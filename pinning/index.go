package pinning

import (
	"github.com/softmdev/softmdev/iommu"
)

// cell is the reach of one owner on one block (32 pages) of one mapping, with
// the key by which the owner finds it: the number of the block in IOVA space
// and the mapping, since small mappings share blocks.
type cell struct {
	block uint64
	id    uint32
	w     *window
	owner *Owner
	iommu.Reach
}

// index finds the cells of an owner: open addressing, at most half full,
// deletion by moving back. Guarded by Pinner.mu.
type index struct {
	shift uint8
	n     int
	slots []*cell
}

func (x *index) init() { x.resize(16) }

func (x *index) resize(slots int) {
	old := x.slots
	x.slots = make([]*cell, slots)
	x.shift = 64
	for ; slots > 1; slots >>= 1 {
		x.shift--
	}
	x.n = 0
	for _, c := range old {
		if c != nil {
			x.insert(c)
		}
	}
}

func (x *index) home(block uint64, id uint32) uint64 {
	return (block ^ uint64(id)<<40) * 0x9e3779b97f4a7c15 >> x.shift
}

// find is the cell of a block of a mapping, nil if there is none.
func (x *index) find(block uint64, id uint32) *cell {
	mask := uint64(len(x.slots) - 1)
	for i := x.home(block, id); ; i++ {
		c := x.slots[i&mask]
		if c == nil || c.block == block && c.id == id {
			return c
		}
	}
}

func (x *index) insert(c *cell) {
	if 2*(x.n+1) > len(x.slots) {
		x.resize(2 * len(x.slots))
	}
	mask := uint64(len(x.slots) - 1)
	i := x.home(c.block, c.id)
	for x.slots[i&mask] != nil {
		i++
	}
	x.slots[i&mask] = c
	x.n++
}

// remove takes c out and moves the cells after it to where a search finds
// them.
func (x *index) remove(c *cell) {
	mask := uint64(len(x.slots) - 1)
	i := x.home(c.block, c.id) & mask
	for x.slots[i] != c {
		if x.slots[i] == nil {
			return
		}
		i = (i + 1) & mask
	}
	x.n--
	for j := i; ; {
		x.slots[i] = nil
		for {
			j = (j + 1) & mask
			d := x.slots[j]
			if d == nil {
				if len(x.slots) > 16 && 8*x.n < len(x.slots) {
					x.resize(len(x.slots) / 2)
				}
				return
			}
			// d may move to i unless its home lies behind i, on the
			// way from i to j.
			if home := x.home(d.block, d.id) & mask; (j-home)&mask >= (j-i)&mask {
				x.slots[i] = d
				i = j
				break
			}
		}
	}
}
