//go:build !race

package vfiouser

const raceEnabled = false
