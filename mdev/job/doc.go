// Package job is what every mediator does for one request of a guest, built
// once: it fetches guest bytes once, counts the work against one budget, and
// owns the pins until the request has ended.
//
// A mediator keeps one [Job] per request it can have in flight and reuses it.
//
//	j.Begin(program, limits)
//	  j.Enter()                    reader section: guest memory may be fetched
//	    j.Fetch(iova, n)           each guest byte once, however often asked for
//	  j.Exit()
//	  j.Pin(iova, n, access)       adds to the one lease of the request
//	  ... hardware runs; its work is charged with j.Step and j.Moved ...
//	j.End()                        lease gone, charge back, bytes forgotten
//
// # Invariants
//
//   - A guest byte is fetched at most once between Begin (or Refetch) and End:
//     what was checked is what runs, whatever the guest does to its memory in
//     between. Overlapping requests for bytes are served from the copy.
//   - After End the job holds no pin, whichever call failed before.
//   - Every call that can be made to repeat by the guest is charged, and fails
//     with errs.ErrBudget once its limit is reached.
//
// # Concurrency
//
// A job belongs to one goroutine at a time; the mediator hands it from the
// goroutine that accepts a request to the one that runs it. Cancel alone may
// be called from anywhere.
package job
