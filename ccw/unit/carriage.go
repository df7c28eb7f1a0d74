package unit

// Carriage is the carriage-control tape of a printer: how long a form is, and
// on which line each of the twelve channels is punched.
type Carriage struct {
	// Lines is the length of a form, at least 1.
	Lines uint8
	// Channel[c-1] is the line of channel c, from 1; zero for a channel
	// that is not punched.
	Channel [12]uint8
}

// DefaultCarriage is a form of 66 lines, at six lines an inch, with channel 1
// on its first line, 12 where an operating system should end the page, 9 two
// lines below, and the others spread over it.
var DefaultCarriage = Carriage{
	Lines:   66,
	Channel: [12]uint8{1, 7, 13, 19, 25, 31, 37, 43, 63, 49, 55, 61},
}

// valid reports whether the channels lie on the form.
func (c *Carriage) valid() bool {
	for _, line := range c.Channel {
		if line > c.Lines {
			return false
		}
	}
	return c.Lines > 0
}

// Channels that a printer tells the program about when a space command moves
// the form to or over them: the page is nearly, or really, full.
const (
	channelOverflow = 12 // unit exception
	channelNine     = 9  // unit check, sense bit 7
)

// passes reports whether moving n lines down from line reaches or passes the
// punch of channel ch.
func (c *Carriage) passes(ch, line, n int) bool {
	at := int(c.Channel[ch-1])
	if at == 0 || n == 0 {
		return false
	}
	if at <= line {
		at += int(c.Lines) // on the next form
	}
	return at-line <= n
}
