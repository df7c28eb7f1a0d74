// Package load has no code. Its test serves many devices from one `mdev serve`
// to as many clients, all busy, and looks for what one could have done to
// another: bytes in the wrong memory, an interrupt at the wrong client, a device
// that does not get its turn. It prints how long accesses and commands took.
//
//	go test ./internal/load -v -for 1m
package load
