package translatetest

import "testing"

// Check runs the store's consistency check when the test ends, and fails the
// test if it does not hold. Use it right after New, so that it runs after
// every clean-up the test registers later.
func Check(t testing.TB, store interface{ Check() error }) {
	t.Helper()
	t.Cleanup(func() {
		t.Helper()
		if err := store.Check(); err != nil {
			t.Errorf("the store is inconsistent at the end of the test: %v", err)
		}
	})
}
