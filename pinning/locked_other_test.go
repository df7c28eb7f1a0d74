//go:build !linux

package pinning_test

import "testing"

func needLocked(t *testing.T, pages int) { t.Skip("the Locked backend is for Linux only") }
