// Package fba is an emulated fixed-block direct-access volume, by default a
// 3370 behind a 3880 control unit, or another of [Models]: hardware, as the
// channel subsystem of ccw/channel sees it.
//
// A [Volume] executes one command at a time over an [Image]: raw 512-byte
// blocks, block 0 first, nothing else. [Memory] holds an image in this process
// and copies on write over a base that it never changes; [File] writes each
// block through to a file.
//
// # Specification
//
// IBM publishes the commands of fixed-block devices in the device manuals
// (GA26-1657 for the 3370, SA22-1025 for the fixed-block emulation of S/390
// internal disks). What is known of them here: command codes and parameter
// layouts as Linux drivers/s390/block/dasd_fba.c builds them, checks and
// residuals as SDL-Hyperion fbadasd.c answers them, and the fba recording.
//
//	02 read IPL                 63 define extent (16 bytes)
//	03 no-operation             64 read device characteristics (32 bytes)
//	04 basic sense (24 bytes)   94 device release
//	14 unconditional reserve    A4 read and reset buffered log (24 bytes)
//	41 write                    B4 device reserve
//	42 read                     E4 sense ID (7 bytes)
//	43 locate (8 bytes)
//
// # Invariants
//
//   - A command reaches only blocks inside the extent of its own program, and
//     an extent lies inside the image: both are checked before data moves.
//   - A block is written whole or not at all. When the channel ends a write
//     with a check, the block it stopped in keeps its old content. When the
//     program offers fewer bytes than the blocks it located, zeros are written
//     for the rest: by reference in a [Memory], as a hole in a [File], so that
//     a short command is a short operation.
//   - No command allocates, except that the first write to a piece of a
//     [Memory] copies that piece.
//   - The package imports no translating code: data moves through the
//     [channel.Transfer] it is given and by nothing else.
//
// # Concurrency
//
// A Volume is used by its subchannel, one command at a time; it has no lock.
// [Volume.Image] may be read by a host only while no program runs.
//
// # Out of scope
//
// Overrun (a real drive cannot wait for a program that chains data inside a
// block; this one can), defective blocks, the diagnostic commands, and a
// second channel path: reserve and release are accepted and remembered but
// there is nobody to lock out.
package fba
