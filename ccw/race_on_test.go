//go:build race

package ccw_test

const underRace = true
