package dashboard

import (
	"slices"
	"strings"
	"time"

	"github.com/softmdev/softmdev/internal/daemon"
)

// Device is a device as the page shows it. Numbers of a session, from Mappings
// on, are zero while nobody has the device open.
type Device struct {
	UUID     string    `json:"uuid"`
	Parent   string    `json:"parent"`
	Type     string    `json:"type"`
	API      string    `json:"api"`
	State    string    `json:"state"`
	Holder   string    `json:"holder"`
	Endpoint string    `json:"endpoint"`
	Created  time.Time `json:"created"`

	Clients  uint64    `json:"clients"`
	BytesIn  uint64    `json:"bytes_in"`
	BytesOut uint64    `json:"bytes_out"`
	Messages []Message `json:"messages"`

	Session    string      `json:"session"` // its state; empty: not open
	Migration  string      `json:"migration"`
	Mappings   int         `json:"mappings"`
	Mapped     uint64      `json:"mapped_bytes"`
	Pinned     uint64      `json:"pinned_bytes"`
	Leases     []Lease     `json:"leases"`
	Rejected   []Rejected  `json:"rejected"`
	Interrupts []Interrupt `json:"interrupts"`
	Regions    []Region    `json:"regions"`
	Counters   []Counter   `json:"counters"`
}

// Message counts the messages of one command.
type Message struct {
	Command string `json:"command"`
	Count   uint64 `json:"count"`
	Errors  uint64 `json:"errors"`
}

// Lease is what one owner holds.
type Lease struct {
	Owner string `json:"owner"`
	Count int    `json:"count"`
	Bytes uint64 `json:"bytes"`
}

// Rejected counts the programs that were refused for one reason.
type Rejected struct {
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// Interrupt counts those of one vector.
type Interrupt struct {
	Index     string `json:"index"`
	Vector    int    `json:"vector"`
	Raised    uint64 `json:"raised"`
	Signalled uint64 `json:"signalled"`
	Lost      uint64 `json:"lost"`
}

// Region counts the accesses to one region.
type Region struct {
	Name   string `json:"name"`
	Reads  uint64 `json:"reads"`
	Writes uint64 `json:"writes"`
	Errors uint64 `json:"errors"`
}

// Counter is anything else that the device reports.
type Counter struct {
	Name   string  `json:"name"`
	Labels string  `json:"labels"` // as name=value, by comma
	Value  float64 `json:"value"`
}

// rejected is the name of the metric, and reason that of its label, by which
// every mediator reports the programs that it refused.
const (
	rejected = "rejected"
	reason   = "reason"
)

func view(l *daemon.Live) Device {
	d := Device{
		UUID: l.UUID.String(), Parent: l.Parent, Type: l.Type, API: string(l.API),
		State: l.State.String(), Holder: l.Holder, Endpoint: l.Endpoint, Created: l.Created,
		Messages: []Message{}, Leases: []Lease{}, Rejected: []Rejected{},
		Interrupts: []Interrupt{}, Regions: []Region{}, Counters: []Counter{},
	}
	if s := l.Server; s != nil {
		d.Clients, d.BytesIn, d.BytesOut = s.Clients, s.Total.BytesIn, s.Total.BytesOut
		for _, c := range s.Total.Commands {
			d.Messages = append(d.Messages, Message{command(c.Command), c.Messages, c.Errors})
		}
	}
	s := l.Session
	if s == nil {
		return d
	}
	d.Session, d.Migration = s.State.String(), s.Migration.String()
	d.Mappings, d.Mapped, d.Pinned = s.Maps, uint64(s.Mapped), uint64(s.Charged)
	for _, o := range s.Leases {
		d.Leases = append(d.Leases, Lease{o.Owner, o.Leases, uint64(o.Bytes)})
	}
	for _, q := range s.IRQs {
		for v, n := range q.Vectors {
			d.Interrupts = append(d.Interrupts, Interrupt{q.Name, v, n.Raised, n.Signalled, n.Lost})
		}
	}
	for _, r := range s.Regions {
		d.Regions = append(d.Regions, Region{r.Name, r.Reads, r.Writes, r.Errors})
	}
	for _, m := range s.Device {
		if why, ok := reasonOf(m.Labels); ok && m.Name == rejected {
			d.Rejected = append(d.Rejected, Rejected{why, uint64(m.Value)})
			continue
		}
		d.Counters = append(d.Counters, Counter{m.Name, labels(m.Labels), m.Value})
	}
	slices.SortStableFunc(d.Rejected, func(a, b Rejected) int { return strings.Compare(a.Reason, b.Reason) })
	slices.SortStableFunc(d.Counters, func(a, b Counter) int {
		return strings.Compare(a.Name+a.Labels, b.Name+b.Labels)
	})
	return d
}
