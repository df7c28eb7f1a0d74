// Package translate is the type1-compatible store: IOVA to memory of this
// process.
package translate
