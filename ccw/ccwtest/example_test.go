package ccwtest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/softmdev/softmdev/ccw/ccwtest"
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/iommu"
)

// report is a testing.TB for use outside of a test.
type report struct{ testing.TB }

func (report) Helper()      {}
func (report) Name() string { return "example" }
func (report) FailNow()     { panic("test over") }
func (report) Errorf(format string, args ...any) {
	text := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	_, text, _ = strings.Cut(text, "but was ")
	fmt.Println(strings.Split(text, "]")[0] + "]")
}

// naive is somebody's translator: it believes that guest addresses will do.
type naive struct {
	*channel.Subchannel
	domain *iommu.Domain
}

func (n naive) Start(orb *cio.ORB) (cio.CC, error) { return n.Subchannel.Start(orb), nil }
func (n naive) Domain() *iommu.Domain              { return n.domain }
func (n naive) Close() error                       { n.Subchannel.Close(); n.domain.Close(); return nil }

// A translator is plugged in by a function that builds it on a host. In a test
// of one's own it goes to ccwtest.Fuzz as well.
func Example() {
	build := func(h *ccwtest.Host) (ccwtest.Translator, error) {
		d := h.Space.NewDomain("naive")
		return naive{channel.New(d, h.Device, h.PMCW, nil), d}, nil
	}
	defer func() { fmt.Println(recover()) }() // what FailNow of a test does
	ccwtest.Differential(report{}, ccwtest.Decode([]byte{0x03}), build)
	// Output:
	// [naive: fault 1: r- of 8 bytes at 0x1000: hpa 0x1000: outside the device's reach]
	// test over
}
