package intremap_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu/intremap"
	"github.com/softmdev/softmdev/translate/addr"
)

const (
	vmA intremap.VMID = 1
	vmB intremap.VMID = 2
	// devA and devB share their source id: a device with a PASID per VM.
	source intremap.SourceID = 0x3a08
)

var (
	devA = intremap.Requester{Source: source, VM: vmA}
	devB = intremap.Requester{Source: source, VM: vmB}
)

// inbox keeps what it is sent.
type inbox struct {
	mu  sync.Mutex
	got []intremap.Interrupt
}

func (s *inbox) Deliver(i intremap.Interrupt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, i)
}

// take is what came since the last take.
func (s *inbox) take() []intremap.Interrupt {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got
}

// lines is memory with a few descriptors.
type lines map[addr.HPA]*intremap.Descriptor

func (l lines) Descriptor(a addr.HPA) (*intremap.Descriptor, error) {
	if d := l[a]; d != nil {
		return d, nil
	}
	return nil, errors.New("no memory there")
}

func newTable(t testing.TB, cfg *intremap.Config) *intremap.Table {
	t.Helper()
	table, err := intremap.New(cfg)
	require.NoError(t, err)
	t.Cleanup(table.Close)
	return table
}

func alloc(t testing.TB, table *intremap.Table, vm intremap.VMID, n int) *intremap.Block {
	t.Helper()
	b, err := table.Alloc(vm, n, 0)
	require.NoError(t, err)
	return b
}

func present(vector uint8) intremap.Common {
	return intremap.Common{Present: true, Vector: vector, Source: intremap.OnlySource(source)}
}

func remapped(vector uint8, dest uint32) intremap.IRTE {
	return intremap.Remapped{Common: present(vector), Dest: dest}.IRTE()
}

// handle is the message of an entry by its index.
func handle(i int) intremap.Message {
	return intremap.Remappable{Handle: uint16(i)}.Message()
}
