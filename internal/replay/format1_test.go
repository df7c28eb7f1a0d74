package replay

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/unit"
	"github.com/softmdev/softmdev/internal/recording"
)

// twist is how SDL-Hyperion (channel.c) ends the format-1 twin of a program of
// vec0 where the format matters.
type twist struct {
	steps   int // executed
	address int // of the CCW address of the SCSW behind the last of them
	dstat   byte
	cstat   byte
	resid   uint16
	areas   int // of the data areas, how many got data
}

// twists by seq; the names of the rows are those of vec0.
var twists = map[int]twist{
	// A transfer whose flags or count are not zero is refused, in a data
	// chain as well; the device's own end is not shown.
	12: {steps: 2, address: 8, cstat: 0x20, areas: 1},
	34: {steps: 2, address: 8, cstat: 0x20},
	// A zero count is allowed where neither CD nor data chaining is.
	22: {steps: 1, address: 8, dstat: 0x0c},
	23: {steps: 1, address: 8, cstat: 0x20},
	24: {steps: 2, address: 8, cstat: 0x20, areas: 1},
	// Command 18 is no transfer.
	27: {steps: 2, address: 8, cstat: 0x20},
	// The printer leaves the count of an immediate command: incorrect length.
	83: {steps: 1, address: 8, dstat: 0x0c, cstat: 0x40, resid: 1},
}

// hyperionFormat1 is the format-1 twin of a record of vec0 with the results of
// SDL-Hyperion.
func hyperionFormat1(seq int, rec *recording.Record) *recording.Record {
	c := toFormat1(rec)
	c.Scenario, c.Name = "vec1", strings.Replace(rec.Name, "fmt0", "fmt1", 1)
	w, ok := twists[seq]
	if !ok {
		return c
	}
	c.Trace = c.Trace[:w.steps]
	last := &c.Trace[w.steps-1]
	last.Ended, last.DStat, last.CStat, last.Resid = true, w.dstat, w.cstat, w.resid
	s := cio.SCSW(*c.Expect.SCSW)
	s.SetCCWAddr(uint32(last.At) + uint32(w.address))
	s.SetDevice(cio.DeviceStatus(w.dstat))
	s.SetSubchannel(cio.SubchannelStatus(w.cstat))
	s.SetCount(w.resid)
	s.SetControl(normalEnd)
	if w.cstat != 0 {
		s.SetControl(unusualEnd)
	}
	raw := [12]byte(s)
	c.Expect.SCSW = &raw
	copy(c.Expect.IRB, raw[:])
	if n := w.areas; n < len(c.Expect.Memory) {
		c.Expect.Memory = c.Expect.Memory[:n]
	}
	return c
}

// deal replaces the cards that programs of vec0 read by those that their twins
// read: three twins before them are refused before they feed a card.
func deal(t *testing.T, deck []byte, seq int, segs []recording.Segment) {
	late := 0
	for _, refused := range []int{23, 27, 34} {
		if seq > refused {
			late++
		}
	}
	card, unnumbered := -1, map[int]int{10: 10, 70: 47}
	for i := range segs {
		s := &segs[i]
		if bytes.HasPrefix(s.Data, []byte("CARD ")) {
			n, err := strconv.Atoi(string(s.Data[5:9]))
			require.NoError(t, err)
			card = n
		} else if n, ok := unnumbered[seq]; ok {
			card = n
		}
		at := bytes.Index(deck[card*unit.CardSize:][:unit.CardSize], s.Data)
		require.GreaterOrEqual(t, at, 0, "%d: card %d", seq, card)
		s.Data = bytes.Clone(deck[(card-late)*unit.CardSize+at:][:len(s.Data)])
	}
}

// The format-1 twins of all of vec0, in one scenario, on models with the deck
// of the vectors and on the recorded device side: nothing differs that no rule
// knows, and where the format makes a rule needless it is not used.
func TestFormat1TwinsOfHyperion(t *testing.T) {
	deck, err := os.ReadFile(filepath.Join(testdata, "init", "vec-cards.bin"))
	require.NoError(t, err)
	var recs []*recording.Record
	for seq, rec := range load(t, "vec0") {
		c := hyperionFormat1(seq, rec)
		if rec.Device.DevNo == 0x000c && seq != 19 {
			deal(t, deck, seq, c.Expect.Memory)
		}
		recs = append(recs, c)
	}
	without := map[int]bool{22: true, 23: true, 24: true} // zero counts: as recorded
	for _, how := range []Choice{Scripted, Auto} {
		opt := Options{Device: how, Poison: 0xa5}
		all, err := group(filepath.Join(testdata, "vec1.jsonl.gz"), recs, make([]int, len(recs)), &opt)
		require.NoError(t, err)
		require.NoError(t, all[0].reset())
		seq := 0
		_, err = all[0].Run(context.Background(), func(r *Result) {
			want := vecRules[r.Seq]
			if without[r.Seq] {
				want = ""
			}
			var got []string
			for _, x := range r.Rules {
				got = append(got, x.Name)
			}
			switch {
			case want != "":
				require.Equal(t, []string{want}, got, "%d %s: %+v", r.Seq, r.Name, r.Diffs)
			case len(got) > 0:
				require.Contains(t, []string{"reject-residual", "midaw-skip"}, got[0], "%d %s: %+v", r.Seq, r.Name, r.Diffs)
			}
			require.NotEqual(t, Fail, r.Outcome, "%d %s: %+v", r.Seq, r.Name, r.Diffs)
			seq++
		})
		require.NoError(t, err)
		require.Equal(t, len(recs), seq)
	}
}
