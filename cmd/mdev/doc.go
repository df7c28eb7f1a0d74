// Mdev replays, inspects, minimises and measures recorded guest programs
// without the guest and without the hardware.
//
//	mdev replay testdata/ccw
//	mdev inspect testdata/ccw/dasd.jsonl.gz --seq 50
//	mdev minimize broken.jsonl --seq 17 -o small.jsonl
//	mdev bench
//
// Results go to standard output, diagnostics to standard error. The exit code
// is 0 when all is as recorded, 1 when something differs, 2 when the command
// line or a file is bad (one line says which file, line and field), 3 when
// mdev itself failed, 130 when it was interrupted. Files are written whole or
// not at all.
package main
