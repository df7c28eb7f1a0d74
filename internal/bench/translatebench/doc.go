// Package translatebench measures the store's hot paths side by side with the
// simple things one could use instead: a sorted slice under an RWMutex
// (struct of arrays, binary search: the baseline of all ratios), a B-tree
// (tidwall/btree) and go-memdb.
//
// The layout is that of a guest with a vIOMMU: many small mappings, of 1 to 4
// pages, made in random order, every fourth one followed by a hole, each
// backed by memory elsewhere. A look-up of every contender returns the host
// address, what is left of the mapping and its access.
//
// Times are CPU times of the measuring thread, so that other work on the
// machine disturbs them through the caches only.
package translatebench
