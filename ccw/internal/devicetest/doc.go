// Package devicetest runs channel programs on a device model in tests: those
// of a recording, or ones that a test spells out.
//
// The device stands at a channel.Subchannel over plain memory, with no
// translation between: what is tested is the device and how it uses its
// transfer. The reader of recordings here knows no more than the tests of
// device models need.
package devicetest
