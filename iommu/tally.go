package iommu

// tally counts holds for each of 64 bits at once: plane i holds bit i of the
// 64 counters. Adding one to any subset of the counters ripples a carry
// through the planes, so a run of 32 pages costs what one page costs. Counts
// of 0 and 1, nearly all there are, are settled in the first plane. The zero
// tally counts nothing.
//
// A tally is guarded by whoever guards the thing it counts.
type tally struct {
	one  uint64   // plane 0
	many uint64   // bits whose count is 2 or more: the union of planes
	up   []uint64 // planes 1 and up, grown when a count needs them
}

// held is the bits whose count is not zero.
func (t *tally) held() uint64 { return t.one | t.many }

// add counts one more for each bit of m.
func (t *tally) add(m uint64) {
	carry := t.one & m
	t.one ^= m
	if carry != 0 {
		t.carry(carry)
	}
}

func (t *tally) carry(m uint64) {
	t.many |= m
	for i := 0; m != 0; i++ {
		if i == len(t.up) {
			t.up = append(t.up, 0)
		}
		p := t.up[i]
		t.up[i] = p ^ m
		m &= p
	}
}

// sub counts one less for each bit of m, none of whose counts may be zero.
func (t *tally) sub(m uint64) {
	borrow := m &^ t.one
	t.one ^= m
	if borrow != 0 {
		t.borrow(borrow)
	}
}

func (t *tally) borrow(m uint64) {
	t.many = 0
	for i, p := range t.up {
		p ^= m
		t.up[i] = p
		t.many |= p
		m &= p // the bits that were 0 and are 1 now borrow in turn
	}
	if m != 0 {
		panic("iommu: a page is released more often than it was granted")
	}
}

// count is the count of one bit.
func (t *tally) count(bit uint) uint64 {
	n := t.one >> bit & 1
	for i, p := range t.up {
		n |= p >> bit & 1 << (i + 1)
	}
	return n
}
