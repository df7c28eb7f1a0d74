// Package mdevctl reads and writes the definitions of mediated devices that
// mdevctl keeps, so that those which an operator has already work here, and
// those made here work there.
//
// A definition is a file <root>/<parent>/<uuid>, by default below
// [DefaultRoot]:
//
//	{
//	  "mdev_type": "demo",
//	  "start": "auto",
//	  "attrs": [
//	    {
//	      "mmap": "on"
//	    }
//	  ]
//	}
//
// One UUID may be defined under several parents. Attributes are an ordered
// list: they are applied in that order when the device starts, and a name may
// appear more than once.
//
// Specification: mdevctl(8) of mdevctl 1.4.0, sections COMMANDS and
// CONFIGURATION FILE FORMAT, and what that version writes: two spaces an
// indentation, keys in the order above, no newline at the end of a file.
//
// # What always holds
//
//   - What is written is byte for byte what mdevctl would have written.
//   - A file appears whole, changes whole or stays as it was; of two that
//     define the same device at one time, one is told errs.ErrExists.
//   - One bad file hides no other: it is reported as a [*FileError], and the
//     rest is listed. (mdevctl lists nothing then.)
//   - A file is at most [MaxFile] bytes; nothing but regular files is read.
//
// # Differences to mdevctl
//
// A start that is not a string, or an mdev_type that is not, is refused with a
// reason; mdevctl takes the first for manual and ends on the second. As there,
// a start other than "auto" is manual, keys that have no meaning are ignored,
// and a change of the definition drops them. Parents are names of one path
// element. Scripts (scripts.d) are not run.
package mdevctl
