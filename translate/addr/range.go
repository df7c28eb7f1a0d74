package addr

import "fmt"

// Range is a non-empty run of addresses, first and last inclusive. The zero
// Range is the single address 0; use the constructors.
type Range[A Space] struct{ start, last A }

// RangeOf is the n bytes from start. ok is false when n is zero or the last
// byte would lie beyond 2^64-1.
func RangeOf[A Space](start A, n Len) (r Range[A], ok bool) {
	last := uint64(start) + uint64(n) - 1
	if n == 0 || last < uint64(start) {
		return Range[A]{}, false
	}
	return Range[A]{start, A(last)}, true
}

// RangeLast is the range from start to last, both inclusive. ok is false when
// last lies before start.
func RangeLast[A Space](start, last A) (r Range[A], ok bool) {
	if last < start {
		return Range[A]{}, false
	}
	return Range[A]{start, last}, true
}

// MustRange is RangeOf for constants and tests; it panics where RangeOf says
// no.
func MustRange[A Space](start A, n Len) Range[A] {
	r, ok := RangeOf(start, n)
	if !ok {
		panic(fmt.Sprintf("addr: no range of %d bytes at %#x", uint64(n), uint64(start)))
	}
	return r
}

// Whole is the range of every address.
func Whole[A Space]() Range[A] { return Range[A]{0, ^A(0)} }

// Start is the first address of r.
func (r Range[A]) Start() A { return r.start }

// Last is the last address of r, inclusive.
func (r Range[A]) Last() A { return r.last }

// Len is the number of bytes in r. The whole space has 2^64 bytes, which no
// Len holds: ok is false for it alone.
func (r Range[A]) Len() (n Len, ok bool) {
	n = Len(r.last-r.start) + 1
	return n, n != 0
}

// Contains reports whether a lies in r.
func (r Range[A]) Contains(a A) bool { return r.start <= a && a <= r.last }

// Covers reports whether all of s lies in r.
func (r Range[A]) Covers(s Range[A]) bool { return r.start <= s.start && s.last <= r.last }

// Overlaps reports whether r and s share an address.
func (r Range[A]) Overlaps(s Range[A]) bool { return r.start <= s.last && s.start <= r.last }

// Intersect is what r and s share; ok is false when that is nothing.
func (r Range[A]) Intersect(s Range[A]) (t Range[A], ok bool) {
	return RangeLast(max(r.start, s.start), min(r.last, s.last))
}

// Pages is r widened to whole pages.
func (r Range[A]) Pages() Range[A] {
	return Range[A]{PageOf(r.start), A(uint64(r.last) | PageMask)}
}

// String prints r as [0x1000, 0x1fff].
func (r Range[A]) String() string {
	return fmt.Sprintf("[%#x, %#x]", uint64(r.start), uint64(r.last))
}
