//go:build !(linux && amd64) || race

package translate

// fastSections: see section_fast.go. Here every section uses atomic stores,
// which on most architectures of this kind cost little.
const fastSections = false

func registerBarrier() bool { return false }

func barrier() {}
