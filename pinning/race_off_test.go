//go:build !race

package pinning_test

const raceEnabled = false
