// Package arch has no code. Its tests hold the direction of imports and the
// places of unsafe code.
package arch
