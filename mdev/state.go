package mdev

// State is what a session is at.
type State uint8

// The states.
const (
	StateClosed State = iota
	StateOpen
	StateQuiesced
	StateResetting
	StateFailed
	StateClosing
)
