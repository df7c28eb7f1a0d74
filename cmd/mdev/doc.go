// Mdev serves mediated devices to VMMs over vfio-user, and replays, inspects,
// minimises and measures recorded guest programs without the guest and without
// the hardware.
//
//	mdev serve --type demo --socket-path /tmp/demo.sock
//
//	mdev serve --control /run/mdev/control.sock
//	mdev start --type demo
//	mdev list --watch
//	mdev stop -u 83c32df7-d52e-4ec1-9668-1f3c7e4df107
//
//	mdev define --type demo --auto
//	mdev list --defined --dumpjson
//
//	mdev replay testdata/ccw
//	mdev inspect testdata/ccw/dasd.jsonl.gz --seq 50
//	mdev minimize broken.jsonl --seq 17 -o small.jsonl
//	mdev bench
//
// Results go to standard output, diagnostics and the log to standard error.
// The exit code is 0 when all is as recorded, or was done, 1 when something
// differs, 2 when the command line or a file is bad (one line says which file,
// line and field), 3 when mdev itself failed, or could not do what was asked,
// 130 when it was interrupted; mdev serve ends with 0 when it is told to end.
// Files are written whole or not at all.
//
// Definitions of devices are kept as mdevctl keeps them, see package mdevctl.
package main
