package reg

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// Table prints registers, one a line, with their values and masks in
// hexadecimal; "-" stands for a mask without bits. The column kept has the bits
// that outlive a function-level reset, with an asterisk where they outlive
// every other one as well.
func Table(regs []Reg) string {
	var s strings.Builder
	w := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "offset\twidth\tname\treset\twrite\tw1c\torder\tlive\tkept")
	for i := range regs {
		r := &regs[i]
		mask := func(m uint64) string {
			if m == 0 {
				return "-"
			}
			return fmt.Sprintf("%0*x", 2*r.Width, m)
		}
		kept := mask(r.Keep | r.Sticky)
		if r.Sticky != 0 {
			kept += "*"
		}
		fmt.Fprintf(w, "0x%03x\t%d\t%s\t%0*x\t%s\t%s\t%s\t%s\t%s\n", r.Offset, r.Width, r.Name, 2*r.Width, r.Reset,
			mask(r.Write), mask(r.W1C), mask(r.Order), mask(r.Live), kept)
	}
	_ = w.Flush() // a Builder takes everything
	return s.String()
}
