package iommu

// tally counts holds for each of 64 bits at once: plane i holds bit i of the 64
// counters. Adding one to any subset of the counters ripples a carry through
// the planes, which for the small counts of practice is one or two words of
// work whatever the size of the subset: a run of 32 pages costs what one page
// costs. The zero tally counts nothing.
//
// A tally is guarded by whoever guards the thing it counts.
type tally struct {
	plane [3]uint64 // counts up to 7
	more  []uint64  // higher planes, grown when a count needs them
}

// add counts one more for each bit of m.
func (t *tally) add(m uint64) {
	for i := range t.plane {
		p := t.plane[i]
		t.plane[i] = p ^ m
		if m &= p; m == 0 {
			return
		}
	}
	t.carry(m)
}

func (t *tally) carry(m uint64) {
	for i := 0; m != 0; i++ {
		if i == len(t.more) {
			t.more = append(t.more, 0)
		}
		p := t.more[i]
		t.more[i] = p ^ m
		m &= p
	}
}

// sub counts one less for each bit of m, and returns the bits whose count is
// not zero now. The count of each bit of m must not be zero.
func (t *tally) sub(m uint64) (held uint64) {
	for i := range t.plane {
		p := t.plane[i]
		p ^= m
		t.plane[i] = p
		held |= p
		m &= p // the bits that were 0 and are 1 now borrow
	}
	for i, p := range t.more {
		p ^= m
		t.more[i] = p
		held |= p
		m &= p
	}
	if m != 0 {
		panic("iommu: a page is released more often than it was granted")
	}
	return held
}

// count is the count of one bit.
func (t *tally) count(bit uint) (n uint64) {
	for i, p := range t.plane {
		n |= p >> bit & 1 << i
	}
	for i, p := range t.more {
		n |= p >> bit & 1 << (i + len(t.plane))
	}
	return n
}
