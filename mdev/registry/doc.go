// Package registry holds what exists: parents, the types they offer, devices,
// groups.
package registry
