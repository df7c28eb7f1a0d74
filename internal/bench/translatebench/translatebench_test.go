package translatebench

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/internal/bench"
)

func BenchmarkTranslate(b *testing.B) { bench.Test(b, Benchmarks()) }

func TestList(t *testing.T) { require.NoError(t, bench.Check(Benchmarks())) }

// Every contender answers every query alike, so that what is compared is the
// same work.
func TestContendersAgree(t *testing.T) {
	spans := layout(500)
	var all []contender
	for _, x := range baselines {
		c := x.make()
		fill(c, spans)
		c.remove(spans[7])
		all = append(all, c)
	}
	queries := append(random(spans), sequential(spans)...)
	queries = append(queries, spans[0].iova-1, spans[7].iova, ^spans[0].iova)
	for _, a := range queries {
		want, wantOK := all[0].find(a)
		for _, c := range all[1:] {
			got, ok := c.find(a)
			require.Equal(t, wantOK, ok, "%v", a)
			require.Equal(t, want, got, "%v", a)
		}
	}
}
