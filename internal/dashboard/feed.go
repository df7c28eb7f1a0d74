package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/softmdev/softmdev/internal/daemon"
)

// feed is the devices as JSON, taken at most once each interval however many
// ask.
type feed struct {
	live     func() []daemon.Live
	interval time.Duration

	mu    sync.Mutex
	taken time.Time // guarded by mu
	json  []byte    // guarded by mu; not changed once made
}

// bytes are the devices as they were at most half an interval ago.
func (f *feed) bytes() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.json != nil && time.Since(f.taken) < f.interval/2 {
		return f.json
	}
	list := []Device{}
	for _, l := range f.live() {
		list = append(list, view(&l))
	}
	b, err := json.Marshal(list)
	if err != nil { // a number that JSON has no word for
		b = []byte("[]")
	}
	f.json, f.taken = b, time.Now()
	return b
}

func (f *feed) now(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(f.bytes()) // nobody to tell
}

// stream sends the devices again and again, until the other side is gone or
// takes too long.
func (f *feed) stream(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(f.interval)
	defer tick.Stop()
	for {
		if c.SetWriteDeadline(time.Now().Add(writeTime)) != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", f.bytes()); err != nil {
			return
		}
		if c.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}
