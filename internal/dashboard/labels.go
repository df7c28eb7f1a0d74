package dashboard

import (
	"strings"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// reasonOf is the reason among labels that has no other beside it.
func reasonOf(ls []mdev.Label) (string, bool) {
	if len(ls) == 1 && ls[0].Name == reason {
		return ls[0].Value, true
	}
	return "", false
}

// command names c; 0 stands for all that the protocol does not have.
func command(c wire.Command) string {
	if c == 0 {
		return "unknown"
	}
	return c.String()
}

func labels(ls []mdev.Label) string {
	var b strings.Builder
	for i, l := range ls {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(l.Name + "=" + l.Value)
	}
	return b.String()
}
