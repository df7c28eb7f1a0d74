package replay

import (
	"sync"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwdev"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/mdev"
)

// recorded keeps why the first program could not be recorded.
type recorded struct {
	mu  sync.Mutex
	err error // guarded by mu
}

func (r *recorded) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

func (r *recorded) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// recorder records what a device does that stands for the one of rec: under the
// name of that one.
type recorder struct {
	m   *machine
	rec *recording.Record
}

// recorder is what records the device of rec; nil when nobody does.
func (m *machine) recorder(rec *recording.Record) mdev.Recorder {
	if m.opt.Record == nil {
		return nil
	}
	return recorder{m, rec}
}

// Record implements [mdev.Recorder].
func (r recorder) Record(program any) error {
	if x, ok := program.(*recording.Record); ok {
		again := *x
		again.Scenario, again.Device = r.rec.Scenario, r.rec.Device
		program = &again
	}
	err := r.m.opt.Record.Record(program)
	if err != nil {
		r.m.recorded.fail(err)
	}
	return err
}

// watch is what looks at the submissions of the device of rec; nil when nobody
// does.
func (m *machine) watch(rec *recording.Record) func(*ccw.Submission) {
	to := m.recorder(rec)
	if to == nil && m.observe == nil {
		return nil
	}
	return func(x *ccw.Submission) {
		if m.observe != nil {
			m.observe(rec.Device.Key(), x)
		}
		switch {
		case to == nil:
		case x.Err != nil:
			m.recorded.fail(x.Err)
		default:
			_ = to.Record(ccwdev.NewRecord(x, rec.Scenario, rec.Device)) // kept by recorded
		}
	}
}
