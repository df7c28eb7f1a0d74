//go:build race

package vfiouser

const raceEnabled = true
