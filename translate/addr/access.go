package addr

// Access is what a device may do with memory. Read means the device reads
// memory (output of a program), Write that it writes memory (input).
type Access uint8

const (
	Read      Access = 1 << iota // the device may read
	Write                        // the device may write
	ReadWrite = Read | Write
)

// Allows reports whether a includes all of want.
func (a Access) Allows(want Access) bool { return a&want == want }

// String prints r-, -w, rw or --.
func (a Access) String() string {
	b := [2]byte{'-', '-'}
	if a&Read != 0 {
		b[0] = 'r'
	}
	if a&Write != 0 {
		b[1] = 'w'
	}
	return string(b[:])
}
