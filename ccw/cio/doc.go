// Package cio holds the layouts of the channel subsystem: channel-command
// words, indirect data-address words, the operation-request block, the status
// words a program gets back, and the subchannel-information block.
//
// Specification: z/Architecture Principles of Operation, SA22-7832, chapters
// "I/O Overview", "I/O Instructions", "Basic I/O Functions" and "I/O
// Interruptions". Each type cites its section by name.
//
// All of it is big-endian, as in guest storage, whatever the host is.
//
// Invariants:
//
//   - Decoding is total. Every bit pattern decodes, reserved bits are kept,
//     and encoding what was decoded gives the same bytes.
//   - Nothing here judges. Whether a CCW or an ORB is valid depends on the
//     program around it and is decided by whoever executes or translates it.
//   - No function allocates but the String methods.
//
// Out of scope: transport-mode words (TCW, TCCB, TSB). The ORB's transport bit
// is decoded so that it can be refused.
//
// The package is a leaf: of this module it imports addr alone.
package cio
