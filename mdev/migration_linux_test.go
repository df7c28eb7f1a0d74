package mdev_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevtest"
)

// state is that of a fake device in which some registers are set.
func state(t *testing.T) []byte {
	t.Helper()
	s := mdevtest.Open(t, mdevtest.NewDevice(nil), nil)
	require.NoError(t, s.Write(t.Context(), mdev.BAR2, 100, []byte("state")))
	return save(t, s, mdev.MigStopCopy)
}

// save takes s through the states and returns what comes out.
func save(t *testing.T, s *mdev.Session, by ...mdev.MigState) []byte {
	t.Helper()
	var all bytes.Buffer
	for _, m := range by {
		require.NoError(t, s.SetMigrationState(t.Context(), m))
		for {
			p := make([]byte, 1+rand.IntN(3000))
			n, err := s.ReadMigration(p)
			all.Write(p[:n])
			if err == io.EOF {
				require.Zero(t, n)
				break
			}
			require.NoError(t, err)
			require.NotZero(t, n)
		}
	}
	return all.Bytes()
}

// The state of a device arrives, with and without a first copy while it runs,
// however the stream is cut.
func TestMigration(t *testing.T) {
	for name, by := range map[string][]mdev.MigState{
		"stop and copy":     {mdev.MigStopCopy},
		"pre-copy":          {mdev.MigPreCopy, mdev.MigStopCopy},
		"pre-copy with P2P": {mdev.MigPreCopy, mdev.MigPreCopyP2P, mdev.MigPreCopy, mdev.MigStopCopy},
	} {
		t.Run(name, func(t *testing.T) {
			mdevtest.Leaks(t)
			src, dst := mdevtest.Open(t, mdevtest.NewDevice(nil), nil), mdevtest.Open(t, mdevtest.NewDevice(nil), nil)
			require.NoError(t, src.Write(t.Context(), mdev.BAR2, 100, []byte("what is migrated")))
			stream := save(t, src, by...)
			require.NoError(t, dst.SetMigrationState(t.Context(), mdev.MigResuming))
			for len(stream) > 0 {
				n := min(len(stream), 1+rand.IntN(2000))
				require.NoError(t, dst.WriteMigration(stream[:n]))
				stream = stream[n:]
			}
			require.NoError(t, dst.WriteMigration(nil))
			require.NoError(t, dst.SetMigrationState(t.Context(), mdev.MigRunning))
			p := make([]byte, 16)
			require.NoError(t, dst.Read(t.Context(), mdev.BAR2, 100, p))
			require.Equal(t, "what is migrated", string(p))
			require.NoError(t, src.SetMigrationState(t.Context(), mdev.MigRunning), "the source may go on")
			require.NoError(t, src.Read(t.Context(), mdev.BAR2, 100, p))
		})
	}
}

// A reader that is slow in PRE_COPY gets the rest of it in STOP_COPY, then the
// state: one stream.
func TestMigrationPreCopyIsReadToItsEnd(t *testing.T) {
	info := mdevtest.Info()
	info.Regions[mdev.BAR2].Size = 1 << 20 // more than is buffered
	src, dst := mdevtest.Open(t, mdevtest.NewDevice(info), nil), mdevtest.Open(t, mdevtest.NewDevice(info), nil)
	require.NoError(t, src.Write(t.Context(), mdev.BAR2, 1<<19, []byte("old")))
	require.NoError(t, src.SetMigrationState(t.Context(), mdev.MigPreCopy))
	p := make([]byte, 1000)
	n, err := src.ReadMigration(p)
	require.NoError(t, err)
	require.Equal(t, len(p), n, "a read is filled")
	require.NoError(t, src.Write(t.Context(), mdev.BAR2, 1<<19, []byte("new")))
	stream := append(p, save(t, src, mdev.MigStopCopy)...)
	require.NoError(t, dst.SetMigrationState(t.Context(), mdev.MigResuming))
	require.NoError(t, dst.WriteMigration(stream))
	require.NoError(t, dst.SetMigrationState(t.Context(), mdev.MigStop))
	require.NoError(t, dst.Read(t.Context(), mdev.BAR2, 1<<19, p[:3]))
	require.Equal(t, "new", string(p[:3]))
}

// What each state takes, by the table of MigState.
func TestMigrationStates(t *testing.T) {
	for _, x := range []struct {
		state                          mdev.MigState
		runs, regions, reading, writes bool
	}{
		{mdev.MigRunning, true, true, false, false},
		{mdev.MigRunningP2P, false, true, false, false},
		{mdev.MigPreCopy, true, true, true, false},
		{mdev.MigPreCopyP2P, false, true, true, false},
		{mdev.MigStop, false, true, false, false},
		{mdev.MigStopCopy, false, false, true, false},
		{mdev.MigResuming, false, false, false, true},
		{mdev.MigError, false, false, false, false},
	} {
		t.Run(x.state.String(), func(t *testing.T) {
			r := newRig(t)
			e := r.arm(mdev.IRQMSIX, 0, 1)[0]
			if x.state != mdev.MigError {
				require.NoError(t, r.s.SetMigrationState(t.Context(), x.state))
			} else {
				require.NoError(t, r.s.SetMigrationState(t.Context(), mdev.MigResuming))
				require.ErrorIs(t, r.s.SetMigrationState(t.Context(), mdev.MigStop), errs.ErrInvalid, "a state that is empty")
			}
			require.Equal(t, x.state, r.s.MigrationState())
			require.Equal(t, x.runs, !r.dev.Quiesced())
			require.Equal(t, x.runs, r.s.State() == mdev.StateOpen)
			r.q.Trigger(mdev.IRQMSIX, 0)
			require.Equal(t, x.runs, e.Take() == 1, "interrupts")
			can := func(ok bool, err error) {
				if t.Helper(); ok {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, errs.ErrState)
				}
			}
			can(x.regions, r.s.Read(t.Context(), mdev.BAR0, 0, make([]byte, 4)))
			can(x.regions, r.s.Write(t.Context(), mdev.BAR0, 0, make([]byte, 4)))
			_, err := r.s.ReadMigration(make([]byte, 4))
			can(x.reading, err)
			can(x.writes, r.s.WriteMigration([]byte{'s'}))
			require.NoError(t, r.s.Reset(t.Context()), "a reset leads out of every state")
			require.Equal(t, mdev.MigRunning, r.s.MigrationState())
			require.False(t, r.dev.Quiesced())
			require.NoError(t, r.s.Read(t.Context(), mdev.BAR0, 0, make([]byte, 4)))
		})
	}
}

func TestMigrationStateErrors(t *testing.T) {
	r := newRig(t)
	for _, to := range []mdev.MigState{mdev.MigError, 8, ^mdev.MigState(0)} {
		require.ErrorIs(t, r.s.SetMigrationState(t.Context(), to), errs.ErrInvalid)
	}
	require.NoError(t, r.s.SetMigrationState(t.Context(), mdev.MigStopCopy))
	err := r.s.SetMigrationState(t.Context(), mdev.MigPreCopy)
	require.EqualError(t, err, "migration of fake: no way from STOP_COPY to PRE_COPY: invalid argument")
	require.Equal(t, mdev.MigStopCopy, r.s.MigrationState())
	require.NoError(t, r.s.SetMigrationState(t.Context(), mdev.MigStopCopy), "no step at all")
}

// A step that fails leaves the state before it; the ones before are done.
func TestMigrationStepThatFails(t *testing.T) {
	r := newRig(t)
	r.dev.OnQuiesce = func(context.Context) error { return errs.ErrBusy }
	require.ErrorIs(t, r.s.SetMigrationState(t.Context(), mdev.MigStop), errs.ErrBusy)
	require.Equal(t, mdev.MigRunning, r.s.MigrationState())
	require.NoError(t, r.s.SetMigrationState(t.Context(), mdev.MigPreCopy))
	err := r.s.SetMigrationState(t.Context(), mdev.MigStopCopy)
	require.ErrorIs(t, err, errs.ErrBusy)
	require.EqualError(t, err, "migration of fake from PRE_COPY to PRE_COPY_P2P: quiesce: busy")
	require.Equal(t, mdev.MigPreCopy, r.s.MigrationState())
	_, err = r.s.ReadMigration(make([]byte, 4))
	require.NoError(t, err, "the stream goes on")
	require.False(t, r.dev.Quiesced())
}

// A VMM's data: too short, not a state, too much of it. All end in ERROR,
// which only a reset leaves.
func TestMigrationBadData(t *testing.T) {
	good := state(t)
	for name, data := range map[string][]byte{
		"nothing":       nil,
		"no record":     []byte("rubbish that is longer than a header"),
		"a short state": good[:len(good)-1],
		"half a header": good[:4],
		"more than all": append(bytes.Clone(good), 0),
		"a huge length": {'s', 0, 0, 0, 0, 0, 0, 0, 0x80},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			require.NoError(t, r.s.SetMigrationState(t.Context(), mdev.MigResuming))
			_ = r.s.WriteMigration(data)
			require.ErrorIs(t, r.s.SetMigrationState(t.Context(), mdev.MigRunning), errs.ErrInvalid)
			require.Equal(t, mdev.MigError, r.s.MigrationState())
			require.ErrorIs(t, r.s.SetMigrationState(t.Context(), mdev.MigRunning), errs.ErrInvalid, "no way out")
			require.ErrorIs(t, r.s.WriteMigration(good), errs.ErrState)
			require.True(t, r.dev.Quiesced(), "no DMA")
			require.NoError(t, r.s.Reset(t.Context()))
			require.NoError(t, r.s.SetMigrationState(t.Context(), mdev.MigResuming))
			require.NoError(t, r.s.WriteMigration(good))
			require.NoError(t, r.s.SetMigrationState(t.Context(), mdev.MigRunning))
		})
	}
}

// hungMigrator saves and loads until it is told to stop.
type hungMigrator struct {
	*mdevtest.Device
	began chan struct{}
	loud  bool // writes without end
}

func (h *hungMigrator) Save(ctx context.Context, w io.Writer) error {
	h.began <- struct{}{}
	for h.loud {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (h *hungMigrator) Load(ctx context.Context, r io.Reader) error { return h.Save(ctx, io.Discard) }

// A device that does not come to an end with its state, and a VMM that waits
// for it or does not read: leaving the state, a reset and Close end both.
func TestMigrationThatHangs(t *testing.T) {
	for _, loud := range []bool{false, true} {
		for name, leave := range map[string]func(*testing.T, *mdev.Session){
			"leave": func(t *testing.T, s *mdev.Session) {
				require.NoError(t, s.SetMigrationState(t.Context(), mdev.MigStop))
			},
			"reset": func(t *testing.T, s *mdev.Session) { require.NoError(t, s.Reset(t.Context())) },
			"close": func(t *testing.T, s *mdev.Session) { require.NoError(t, s.Close(t.Context())) },
		} {
			t.Run(name, func(t *testing.T) {
				mdevtest.Leaks(t)
				dev := &hungMigrator{mdevtest.NewDevice(nil), make(chan struct{}), loud}
				s := mdevtest.Open(t, dev, nil)
				require.NoError(t, s.SetMigrationState(t.Context(), mdev.MigStopCopy))
				<-dev.began
				read := make(chan error, 1)
				if !loud {
					go func() {
						_, err := s.ReadMigration(make([]byte, 10))
						read <- err
					}()
					time.Sleep(time.Millisecond)
				}
				leave(t, s)
				if !loud {
					err := <-read
					require.Error(t, err)
					require.NotErrorIs(t, err, io.EOF, "an end that is none")
				}
			})
		}
	}
	t.Run("load", func(t *testing.T) {
		mdevtest.Leaks(t)
		dev := &hungMigrator{mdevtest.NewDevice(nil), make(chan struct{}), false}
		s := mdevtest.Open(t, dev, nil)
		require.NoError(t, s.SetMigrationState(t.Context(), mdev.MigResuming))
		<-dev.began
		wrote := make(chan error, 1)
		go func() { wrote <- s.WriteMigration([]byte("nobody reads this")) }()
		ctx, end := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer end()
		require.ErrorIs(t, s.SetMigrationState(ctx, mdev.MigStop), errs.ErrDeadline)
		require.Equal(t, mdev.MigError, s.MigrationState())
		require.ErrorIs(t, <-wrote, errs.ErrState)
		require.NoError(t, s.Reset(t.Context()))
	})
}

// A quiesce of the VMM's and one of a migration state are two reasons.
func TestMigrationAndQuiesce(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.s.Quiesce(t.Context()))
	require.NoError(t, r.s.SetMigrationState(t.Context(), mdev.MigStop))
	r.s.Unquiesce()
	require.True(t, r.dev.Quiesced())
	require.Equal(t, mdev.StateQuiesced, r.s.State())
	require.NoError(t, r.s.Quiesce(t.Context()))
	require.NoError(t, r.s.SetMigrationState(t.Context(), mdev.MigRunning))
	require.True(t, r.dev.Quiesced())
	require.NoError(t, r.s.SetMigrationState(t.Context(), mdev.MigStop))
	require.NoError(t, r.s.Reset(t.Context()))
	require.Equal(t, mdev.MigRunning, r.s.MigrationState())
	require.True(t, r.dev.Quiesced(), "the VMM's lasts")
	r.s.Unquiesce()
	require.False(t, r.dev.Quiesced())
}

// FuzzMigration: whatever states a VMM asks for and whatever it reads and
// writes, the state is the one that the ways of the kernel's table lead to,
// the device is driven by the rules of its interface, stands still exactly in
// the states that say so, and comes back by a reset.
func FuzzMigration(f *testing.F) {
	good := make([]byte, 0, 64)
	for _, m := range []byte{6, 7, 3, 4, 1, 2} {
		good = append(good, 0, m)
	}
	f.Add([]byte{7}, []byte{})
	f.Add(append([]byte{7}, good...), []byte("s"))
	f.Add([]byte{5, 0, 6, 1, 0, 3, 1, 1, 1, 0, 4, 2, 2, 0, 2}, []byte("p\x10\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, ops, data []byte) {
		in := &input{ops}
		info := mdevtest.Info()
		info.Regions[mdev.BAR0].Size, info.Regions[mdev.BAR0].IOEvents, info.Regions[mdev.BAR2].Size = 16, nil, 0
		info.Migration = mdev.MigrationFlags(in.byte()&6 | 1)
		dev := mdevtest.NewDevice(info)
		s := mdevtest.Open(t, dev, nil)
		at := mdev.MigRunning
		quiesced := false
		for steps := 0; len(in.b) > 0 && steps < 100; steps++ {
			switch in.n(6) {
			case 0:
				to := mdev.MigState(in.n(9))
				err := s.SetMigrationState(t.Context(), to)
				got := s.MigrationState()
				switch way := modelWay(info.Migration, at, to); {
				case way == nil:
					require.ErrorIs(t, err, errs.ErrInvalid, "%v to %v", at, to)
					require.Equal(t, at, got)
				case at == mdev.MigResuming && to != at && got == mdev.MigError:
					require.Error(t, err, "a state that the device refused")
				default:
					require.NoError(t, err, "%v to %v", at, to)
					require.Equal(t, to, got)
				}
				at = got
			case 1:
				_, err := s.ReadMigration(make([]byte, in.byte()))
				saving := at == mdev.MigPreCopy || at == mdev.MigPreCopyP2P || at == mdev.MigStopCopy
				require.Equal(t, saving, err == nil || err == io.EOF, "%v: %v", at, err)
			case 2:
				n := min(in.byte(), len(data))
				err := s.WriteMigration(data[:n])
				data = data[n:]
				if at != mdev.MigResuming {
					require.ErrorIs(t, err, errs.ErrState)
				}
			case 3:
				require.NoError(t, s.Reset(t.Context()))
				at = mdev.MigRunning
			case 4:
				if quiesced = !quiesced; quiesced {
					require.NoError(t, s.Quiesce(t.Context()))
				} else {
					s.Unquiesce()
				}
			case 5:
				err := s.Write(t.Context(), mdev.BAR0, 0, []byte{1})
				refuses := at == mdev.MigStopCopy || at == mdev.MigResuming || at == mdev.MigError
				require.Equal(t, refuses, err != nil, "%v: %v", at, err)
			}
			runs := !quiesced && (at == mdev.MigRunning || at == mdev.MigPreCopy)
			require.Equal(t, runs, !dev.Quiesced(), "%v", at)
			require.Empty(t, dev.Violations())
		}
		require.NoError(t, s.Reset(t.Context()))
		require.Equal(t, mdev.MigRunning, s.MigrationState())
	})
}

// modelWay is the way that a VMM may ask for, nil if there is none: a search
// over all ways of at most five steps for the shortest allowed one.
func modelWay(have mdev.MigrationFlags, from, to mdev.MigState) []mdev.MigState {
	const S, R, SC, RE, RP, PC, PP = mdev.MigStop, mdev.MigRunning, mdev.MigStopCopy, mdev.MigResuming, mdev.MigRunningP2P, mdev.MigPreCopy, mdev.MigPreCopyP2P
	has := map[mdev.MigState]bool{S: true, R: true, SC: true, RE: true, RP: have&2 != 0, PC: have&4 != 0, PP: have == 7}
	saving := map[mdev.MigState]bool{PC: true, PP: true, SC: true}
	if !has[from] || !has[to] || from == SC && (to == PC || to == PP) {
		return nil
	}
	arcs := [][2]mdev.MigState{{RE, S}, {S, RE}, {S, SC}, {SC, S}, {R, RP}, {RP, R}, {RP, S}, {S, RP}, {R, PC}, {PC, R},
		{PC, PP}, {PP, PC}, {PP, RP}, {PP, SC}, {RP, PP}}
	ways := [][]mdev.MigState{{from}}
	for range 5 {
		var longer [][]mdev.MigState
		for _, w := range ways {
			at := w[len(w)-1]
			if at == to {
				return w
			}
			if len(w) > 1 && saving[at] && !(saving[from] && saving[to]) {
				continue
			}
			for _, a := range arcs {
				if a[0] == at {
					longer = append(longer, append(append([]mdev.MigState(nil), w...), a[1]))
				}
			}
		}
		ways = longer
	}
	for _, w := range ways {
		if w[len(w)-1] == to {
			return w
		}
	}
	return nil
}
