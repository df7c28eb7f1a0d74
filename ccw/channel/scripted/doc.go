// Package scripted is a channel device that plays the device side of a
// recording: for each operation the status, and the data that moved.
//
// It is used where the real device is not there or would not do the same
// again. Data really move: input bytes are stored and output bytes are fetched,
// so that a program which is translated wrongly shows.
//
// Out of scope: keeping any state between programs. What a recording does not
// say, the device does not know.
package scripted
