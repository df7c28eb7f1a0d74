// Package guard copies to and from memory that may fault: a file mapping that
// a peer truncates raises SIGBUS when it is touched, an unmapped address
// SIGSEGV. The signal becomes an error of the one copy, not the end of the
// process.
//
// The guard is confined to the copy: nothing else runs under it, so a fault
// anywhere else still ends the process with a trace. It costs about 5 ns a
// copy (BenchmarkCopy); memory that cannot fault is copied without it.
//
// Copies are plain: bytes that another party changes at the same time are
// fetched once, in no order.
package guard

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Fault is the error of a copy that touched memory which is not there. It
// unwraps to errs.ErrFault.
type Fault struct {
	// Addr is the address that faulted, when the machine told it; 0
	// otherwise.
	Addr addr.HVA
}

func (f *Fault) Error() string {
	if f.Addr == 0 {
		return errs.ErrFault.Error()
	}
	return fmt.Sprintf("hva %v: %v", f.Addr, errs.ErrFault)
}

func (f *Fault) Unwrap() error { return errs.ErrFault }

// Copy copies src to dst, as many bytes as the shorter one has. If either
// faults it returns a *Fault, and dst may have been written in part.
func Copy(dst, src []byte) (err error) {
	old := debug.SetPanicOnFault(true)
	defer caught(old, &err)
	copy(dst, src)
	return nil
}

// CopyIn copies len(dst) bytes at src to dst. See [Copy]. src must not be an
// address of Go's heap whose object may be gone: the garbage collector does
// not take that for a fault.
func CopyIn(dst []byte, src addr.HVA) (err error) {
	b, ok := view(src, len(dst))
	if !ok {
		return &Fault{}
	}
	old := debug.SetPanicOnFault(true)
	defer caught(old, &err)
	copy(dst, b)
	return nil
}

// CopyOut copies src to the len(src) bytes at dst. See [CopyIn].
func CopyOut(dst addr.HVA, src []byte) (err error) {
	b, ok := view(dst, len(src))
	if !ok {
		return &Fault{}
	}
	old := debug.SetPanicOnFault(true)
	defer caught(old, &err)
	copy(b, src)
	return nil
}

// caught ends a guarded copy: deferred by it, it turns a fault into an error.
func caught(old bool, err *error) {
	debug.SetPanicOnFault(old)
	e := recover()
	if e == nil {
		return
	}
	re, ok := e.(runtime.Error)
	if !ok {
		panic(e) // not from a copy
	}
	f := &Fault{}
	if a, ok := re.(interface{ Addr() uintptr }); ok {
		f.Addr = addr.HVA(a.Addr())
	}
	*err = f
}
