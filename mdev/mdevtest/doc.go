// Package mdevtest has what the tests of devices and front ends need: a
// [Device] that does what a test scripts and notices when it is driven against
// the rules, a [VMM] with guest memory in a memfd and eventfds, and checks that
// a session left nothing behind ([Check], [Leaks]).
//
// The VMM needs Linux; the device does not.
package mdevtest
