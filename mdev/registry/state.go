package registry

// State is what a device is at.
//
//	          Create               Open
//	(none) ------------> Idle <-----------> Open
//	                      |        closed    | ^
//	                      | Remove    Remove | | nobody closed it in time
//	                      v                  v |
//	(none) <----------- Removing <-----------+-+
//	          destroyed            closed
type State uint8

// The states. A device that is being made is in none of them: it is not seen,
// but its UUID and its instance are taken.
const (
	stateCreating State = iota
	StateIdle           // nobody has it
	StateOpen           // a session has it
	StateRemoving       // it is going; if it has a holder, that was asked to let go
)

// String is the state in one word.
func (s State) String() string {
	switch s {
	case stateCreating:
		return "creating"
	case StateIdle:
		return "idle"
	case StateOpen:
		return "open"
	case StateRemoving:
		return "removing"
	}
	return "unknown"
}
