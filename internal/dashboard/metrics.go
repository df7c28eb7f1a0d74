package dashboard

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/softmdev/softmdev/internal/daemon"
	"github.com/softmdev/softmdev/mdev"
)

// collector turns what is live into metrics when they are scraped. Counters of
// a session begin anew with each client, which Prometheus takes as a restart.
type collector struct{ live func() []daemon.Live }

// The metrics. All have the labels device (UUID) and type.
var (
	infoDesc      = desc("device_info", "A device, by where it is served; the value is 1.", "parent", "api", "endpoint")
	openDesc      = desc("device_open", "1 while a VMM has the device open.")
	clientsDesc   = desc("clients_total", "Clients that connected.")
	bytesDesc     = desc("protocol_bytes_total", "Bytes of messages.", "direction")
	messagesDesc  = desc("messages_total", "Messages from clients.", "command")
	errorsDesc    = desc("message_errors_total", "Messages that were answered with an error.", "command")
	mappingsDesc  = desc("mappings", "Mappings in the device's address space.")
	mappedDesc    = desc("mapped_bytes", "Bytes of guest memory that are mapped.")
	pinnedDesc    = desc("pinned_bytes", "Bytes charged as locked, each page once.")
	leasesDesc    = desc("leases", "Leases on guest memory.", "owner")
	leaseDesc     = desc("lease_bytes", "Bytes of whole pages under lease.", "owner")
	irqDesc       = desc("interrupts_total", "Interrupts that the device raised.", "index", "vector")
	irqSentDesc   = desc("interrupts_signalled_total", "Interrupts that reached the VMM.", "index", "vector")
	irqLostDesc   = desc("interrupts_lost_total", "Interrupts that nobody was there to take.", "index", "vector")
	accessDesc    = desc("region_accesses_total", "Accesses to a region.", "region", "op")
	accessErrDesc = desc("region_errors_total", "Accesses to a region that failed.", "region")
	rejectedDesc  = desc("rejected_total", "Programs that the mediator refused or ended in error.", reason)
)

func desc(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("mdev_"+name, help, append([]string{"device", "type"}, more...), nil)
}

// Describe is prometheus.Collector. What devices report is not known before, so
// that nothing is described and each metric stands for itself.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect is prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, l := range c.live() {
		collect(out, &l)
	}
}

func collect(out chan<- prometheus.Metric, l *daemon.Live) {
	id, typ := l.UUID.String(), l.Type
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, more ...string) {
		// Values may come from a device; what Prometheus does not take is
		// reported by the scrape instead of ending it.
		m, err := prometheus.NewConstMetric(d, t, v, append([]string{id, typ}, more...)...)
		if err != nil {
			m = prometheus.NewInvalidMetric(d, err)
		}
		out <- m
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	send(infoDesc, gauge, 1, l.Parent, string(l.API), l.Endpoint)
	open := 0.0
	if l.Holder != "" {
		open = 1
	}
	send(openDesc, gauge, open)
	if s := l.Server; s != nil {
		send(clientsDesc, counter, float64(s.Clients))
		send(bytesDesc, counter, float64(s.Total.BytesIn), "in")
		send(bytesDesc, counter, float64(s.Total.BytesOut), "out")
		for _, c := range s.Total.Commands {
			send(messagesDesc, counter, float64(c.Messages), command(c.Command))
			send(errorsDesc, counter, float64(c.Errors), command(c.Command))
		}
	}
	s := l.Session
	if s == nil {
		return
	}
	send(mappingsDesc, gauge, float64(s.Maps))
	send(mappedDesc, gauge, float64(s.Mapped))
	send(pinnedDesc, gauge, float64(s.Charged))
	for _, o := range s.Leases {
		send(leasesDesc, gauge, float64(o.Leases), o.Owner)
		send(leaseDesc, gauge, float64(o.Bytes), o.Owner)
	}
	for _, q := range s.IRQs {
		for v, n := range q.Vectors {
			at := strconv.Itoa(v)
			send(irqDesc, counter, float64(n.Raised), q.Name, at)
			send(irqSentDesc, counter, float64(n.Signalled), q.Name, at)
			send(irqLostDesc, counter, float64(n.Lost), q.Name, at)
		}
	}
	for _, r := range s.Regions {
		send(accessDesc, counter, float64(r.Reads), r.Name, "read")
		send(accessDesc, counter, float64(r.Writes), r.Name, "write")
		send(accessErrDesc, counter, float64(r.Errors), r.Name)
	}
	for _, m := range s.Device {
		if why, ok := reasonOf(m.Labels); ok && m.Name == rejected {
			send(rejectedDesc, counter, m.Value, why)
			continue
		}
		reported(send, m)
	}
}

// reported sends a number of which only the device knows what it means.
func reported(send func(*prometheus.Desc, prometheus.ValueType, float64, ...string), m mdev.Metric) {
	var names, values []string
	for _, l := range m.Labels {
		names, values = append(names, metricName(l.Name)), append(values, l.Value)
	}
	send(desc("device_"+metricName(m.Name), "Reported by the device.", names...), prometheus.UntypedValue, m.Value, values...)
}

// metricName makes a name of which Prometheus takes every letter.
func metricName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, s)
}
