// Package runner runs the programs that a guest submits to a device: one after
// another, on a goroutine of its own, each as a job with its pins and its
// budget. It is what a mediator with a queue needs besides knowing what a
// program is.
//
//	r := runner.New(at, runner.Config[command]{Lock: &d.mu, Depth: 16, Run: d.execute, Done: d.complete, Tell: d.interrupt})
//
//	guest: doorbell      d.mu.Lock; r.Submit(c); d.mu.Unlock      does not wait
//	  Run(job, &c)       no lock; fetches, pins, has hardware run it
//	  job.End            the pins are gone
//	  Done(&c, err)      d.mu held; status, registers
//	  Tell(&c)           no lock; the interrupt
//
// The lock is the device's: what the guest sees of a program and that it has
// ended are one step, and so are a reset and that nothing of before it is seen.
//
// # Invariants
//
//   - Submit does not wait for a program, and none of the goroutine's steps but
//     Run and Tell can take long: the memory that a program needs may be the
//     client's, who cannot serve it while it waits for an access.
//   - A program ends once: with Done and Tell, or, after Drop, with neither.
//   - When Idle returns nil no program that was there before runs, and it holds
//     nothing: no pin, no budget.
//   - An unmap of memory that a program holds ends that program at its next
//     charge, and no other one.
//   - While quiesced nothing starts.
//   - After Close nothing of the attachment is used, and there is no goroutine.
//
// # Lock order
//
//	Config.Lock        the device's
//	  the pinner's locks (job.Begin)
//
// # Out of scope
//
// Programs that run at the same time; for that a device has several runners,
// with one lock.
package runner
