// Package dashboard is what `mdev serve --http` shows: a page with the devices
// and what goes on at them, the same as JSON and as Prometheus metrics, and the
// profiles of the process.
//
//	GET /               the page
//	GET /api/devices    [Device], at one moment
//	GET /api/stream     [Device] as server-sent events, one each Config.Interval
//	GET /metrics        Prometheus
//	GET /debug/pprof/   profiles, see net/http/pprof
//
// Everything is read-only: nothing that comes in over HTTP changes a device.
// It is unauthenticated all the same, and shows who uses what; serve it where
// only those can connect who may see that. So that no web site can have a
// visitor's browser read it, requests whose Host is a name that this process
// does not go by are refused, and the page's own policy lets it load nothing
// from elsewhere.
//
// # What always holds
//
//   - Texts that come from a guest, a client or an operator (names, reasons,
//     labels) are data on the page, never markup.
//   - The number of streams is bounded, a stream that is not read is cut off.
//   - Numbers are taken once for all streams, however many look.
package dashboard
