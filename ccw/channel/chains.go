package channel

import "github.com/softmdev/softmdev/ccw/cio"

// Chains reports whether another command is to follow by command chaining if
// this operation ends well: what the channel signals to the device, which may
// reject a program that stops halfway. It is about the CCW in control, so that
// it counts once the data have moved.
func (x *Transfer) Chains() bool {
	return x.flags&(cio.ChainData|cio.ChainCommand) == cio.ChainCommand
}
