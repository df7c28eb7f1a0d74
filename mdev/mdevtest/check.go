package mdevtest

import (
	"context"
	"testing"
	"time"

	"github.com/softmdev/softmdev/mdev"
)

// Open opens dev, and when the test ends closes the session and checks that
// nothing is left of it. If dev is a [Device], no rule may have been broken.
func Open(t testing.TB, dev mdev.Device, cfg *mdev.SessionConfig) *mdev.Session {
	t.Helper()
	s, err := mdev.Open(t.Context(), dev, cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		t.Helper()
		ctx, end := context.WithTimeout(context.Background(), 30*time.Second)
		defer end()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		Check(t, s)
		if d, ok := dev.(*Device); ok {
			for _, v := range d.Violations() {
				t.Errorf("the device was driven against the rules: %s", v)
			}
		}
	})
	return s
}

// Check fails the test, without ending it, if s is not closed or left anything
// behind: a lease, a charge, a mapping, a descriptor or a goroutine. In a
// container that is shared, leases, charges and mappings may be others', and
// so are for the test to check.
func Check(t testing.TB, s *mdev.Session) {
	t.Helper()
	if st := s.State(); st != mdev.StateClosed {
		t.Errorf("session is %v, not closed", st)
	}
	st := s.Stats()
	for end := time.Now().Add(5 * time.Second); st.Goroutines != 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // one that has nothing to do but return
		st = s.Stats()
	}
	if st.FDs != 0 || st.Goroutines != 0 {
		t.Errorf("session left %d descriptors and %d goroutines", st.FDs, st.Goroutines)
	}
	if s.Shared() {
		return
	}
	for _, l := range s.Pinner().Leases() {
		t.Errorf("lease of %s program %d is not released, holds %v", l.Owner, l.Program, l.Holdings)
	}
	if st.Charged != 0 || st.Maps != 0 {
		t.Errorf("session left %v bytes charged, %d mappings", st.Charged, st.Maps)
	}
}
