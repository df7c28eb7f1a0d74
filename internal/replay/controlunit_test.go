package replay

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/internal/recording"
)

// A volume is as capable as the recorded one showed itself to be.
func TestControlUnitOfTheRecording(t *testing.T) {
	recs := load(t, "dasd")
	s := &Scenario{recs: recs}
	d := &recs[8].Device
	cfg := s.eckdConfig(d)
	require.Equal(t, uint16(0x120), cfg.DeviceNumber)
	require.Zero(t, cfg.Features, "what the recorded unit told")
	require.False(t, cfg.WriteFullTrack, "seq 717 was rejected")
	require.False(t, cfg.TrackData)

	// The same answer, with Prefix among the features.
	answer := make([]byte, 256)
	answer[8], answer[40] = 0x01, 0x80
	recs[8].Expect.Memory = []recording.Segment{{GPA: recs[8].Expect.Memory[0].GPA, Data: answer}}
	cfg = s.eckdConfig(d)
	require.Equal(t, answer, cfg.Features[:])

	// Another device of the same scenario told nothing of the kind.
	require.Zero(t, s.eckdConfig(&recs[1].Device).Features)
}

func TestOfTrackData(t *testing.T) {
	for _, tt := range []struct {
		name   string
		op, ex byte
		want   bool
	}{
		{"ccw.md 8: 0C read track data", 0x0C, 0, true},
		{"ccw.md 8: 4C is 0C with orientation", 0x4C, 0, true},
		{"ccw.md 8: 3F+23 write track data", 0x3F, 0x23, true},
		{"ccw.md 8: 3F+11 is write full track", 0x3F, 0x11, false},
		{"ccw.md 8: 06 is data of single records", 0x06, 0, false},
	} {
		b := make([]byte, 20)
		b[0], b[17] = tt.op, tt.ex
		require.Equal(t, tt.want, ofTrackData(b), tt.name)
	}
	require.False(t, ofTrackData(nil))
}

func TestAnotherUnitHasNoModel(t *testing.T) {
	ours := []byte{0xff, 0x21, 0x07, 0xe8, 0x33, 0x90, 0x02, 0x00}
	d := &recording.Device{SenseID: []byte{0xff, 0x39, 0x90, 0xc2, 0x33, 0x90, 0x0a}}
	require.ErrorIs(t, sameUnit(d, ours), errNoModel)
	d.SenseID = append(ours[:7:7], 1, 2, 3)
	require.NoError(t, sameUnit(d, ours))
	d.SenseID = nil
	require.NoError(t, sameUnit(d, ours), "a record need not know")
}
