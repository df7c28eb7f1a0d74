package pintest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// recorder is a test whose failures are wanted.
type recorder struct {
	testing.TB
	log strings.Builder
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) { fmt.Fprintf(&r.log, format+"\n", args...) }

func TestCheckNamesTheLeak(t *testing.T) {
	st, err := translate.New(nil)
	require.NoError(t, err)
	defer st.Close()
	require.NoError(t, st.Map(0x1000, 0x1000, translate.Bytes(make([]byte, 0x1000)), addr.Read))
	space := iommu.NewSpace(nil)
	p := New(t, st, space, nil)
	l := p.NewOwner("dasd0", space.NewDomain("dasd0"), nil).Begin(7)
	_, err = l.Pin(0x1000, 8, addr.Read)
	require.NoError(t, err)

	r := &recorder{TB: t}
	Check(r, p)
	require.Contains(t, r.log.String(), "lease of dasd0 program 7 is not released, holds [dasd0 program 7 holds [0x1000, 0x1fff] r-], began at\n")
	require.Contains(t, r.log.String(), "TestCheckNamesTheLeak")
	require.Contains(t, r.log.String(), "0x1000 bytes are still charged")

	l.Release()
	r = &recorder{TB: t}
	Check(r, p)
	require.Empty(t, r.log.String())
}
