package dasd_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/dasd"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// The recordings are what a Linux guest and a real emulator of a 3390 said to
// each other. Run unmediated, the same programs on the same volumes must end
// with the same status after each command, the same SCSW, ESW and ECW, and the
// same bytes in memory.
func TestRecordings(t *testing.T) {
	var zipl map[uint16]*dasd.Volume
	for _, scenario := range []string{"dasd", "zipl", "dasdipl"} {
		volumes := zipl // the IPL is from the volume that zipl left
		if scenario != "dasdipl" {
			volumes = map[uint16]*dasd.Volume{}
		}
		if scenario == "zipl" {
			zipl = volumes
		}
		t.Run(scenario, func(t *testing.T) {
			n := 0
			for _, r := range records(t, scenario+".jsonl.gz") {
				v := volumes[r.devno]
				if v == nil {
					v = openGolden(t, scenario, r.devno)
					volumes[r.devno] = v
				}
				if err := r.replay(v); err != nil {
					t.Errorf("%s seq %d: %v", scenario, r.Seq, err)
					if n++; n > 5 {
						t.FailNow()
					}
				}
			}
			for _, v := range volumes {
				require.NoError(t, v.Err())
			}
		})
	}
}

const goldenDir = "../../testdata/ccw"

func imageName(scenario string, devno uint16) string {
	return fmt.Sprintf("%s-v%03x.ckd.gz", scenario, devno&0xFFF)
}

func openGolden(t testing.TB, scenario string, devno uint16) *dasd.Volume {
	img, err := dasd.FromBytes(gunzip(t, filepath.Join(goldenDir, "init", imageName(scenario, devno))))
	require.NoError(t, err)
	require.NoError(t, dasd.Check(img))
	v, err := dasd.Open(img, &dasd.Config{DeviceNumber: devno})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dasd.Check(img), "the volume afterwards") })
	return v
}

func gunzip(t testing.TB, path string) []byte {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	b, err := io.ReadAll(z)
	require.NoError(t, err)
	return b
}

// segment is a run of storage, as a recording holds it.
type segment struct {
	GPA, Hex, Fill string
	Len            int
}

func (s segment) bytes() (uint64, []byte) {
	a, err := strconv.ParseUint(s.GPA, 16, 64)
	if err != nil {
		panic(err)
	}
	if s.Hex != "" {
		return a, unhex(s.Hex)
	}
	return a, bytes.Repeat(unhex(s.Fill), s.Len)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// record is the part of a recording that this test is about.
type record struct {
	Seq    int
	Device struct{ Devno string }
	ORB    string
	PMCW   string
	Memory []segment
	Trace  []struct {
		At, Cmd string
		Dstat   *string
	}
	Expect struct {
		SCSW, ESW, ECW string
		Memory         []segment
	}
	devno uint16
}

func records(t testing.TB, name string) []record {
	var list []record
	in := bufio.NewReader(bytes.NewReader(gunzip(t, filepath.Join(goldenDir, name))))
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			var r record
			require.NoError(t, json.Unmarshal(line, &r))
			n, err := strconv.ParseUint(r.Device.Devno, 16, 16)
			require.NoError(t, err)
			r.devno = uint16(n)
			list = append(list, r)
		}
		if err == io.EOF {
			return list
		}
		require.NoError(t, err)
	}
}

// storage is a guest's storage of 1 GiB, whose pages come into being when they
// are touched, full of poison.
type storage map[uint64]*[4096]byte

const (
	poison      = 0xA5
	storageSize = 1 << 30
)

func (m storage) page(n uint64) *[4096]byte {
	p := m[n]
	if p == nil {
		p = new([4096]byte)
		for i := range p {
			p[i] = poison
		}
		m[n] = p
	}
	return p
}

func (m storage) each(a uint64, n int, do func(part []byte, off int)) error {
	if a+uint64(n) > storageSize || a+uint64(n) < a {
		return errs.Addr("gpa", a, errs.ErrNotMapped)
	}
	for off := 0; off < n; {
		at := a + uint64(off)
		part := m.page(at >> 12)[at&0xFFF:]
		part = part[:min(len(part), n-off)]
		do(part, off)
		off += len(part)
	}
	return nil
}

func (m storage) Read(a addr.HPA, p []byte) error {
	return m.each(uint64(a), len(p), func(part []byte, off int) { copy(p[off:], part) })
}

func (m storage) Write(a addr.HPA, p []byte) error {
	return m.each(uint64(a), len(p), func(part []byte, off int) { copy(part, p[off:]) })
}

func (m storage) load(list []segment) {
	for _, s := range list {
		a, b := s.bytes()
		if err := m.Write(addr.HPA(a), b); err != nil {
			panic(err)
		}
	}
}

// watched writes down what the channel asks of the device.
type watched struct {
	channel.Device
	log []string
}

func (w *watched) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	s := w.Device.Execute(cmd, x)
	w.log = append(w.log, fmt.Sprintf("%02x:%02x", uint8(cmd), uint8(s)))
	return s
}

// orb is that of the recording. An IPL has none: format 0, from address 0.
func (r *record) orb() *cio.ORB {
	o := new(cio.ORB)
	copy(o.Raw[:], unhex(r.ORB))
	if o.LPM() == 0 {
		o.SetLPM(0x80)
	}
	return o
}

func (r *record) replay(v *dasd.Volume) error {
	m, want := storage{}, storage{}
	for _, s := range []storage{m, want} {
		s.load(r.Memory)
	}
	want.load(r.Expect.Memory)
	w := &watched{Device: v}
	sch := channel.New(m, w, cio.PMCW(unhex(r.PMCW)), nil)
	defer sch.Close()
	if cc := sch.Start(r.orb()); cc != cio.CC0 {
		return fmt.Errorf("start: %v", cc)
	}
	var irb cio.IRB
	if cc := sch.Test(&irb); cc != cio.CC0 {
		return fmt.Errorf("test: %v", cc)
	}
	var log []string
	for _, e := range r.Trace {
		if e.Dstat != nil {
			log = append(log, e.Cmd+":"+*e.Dstat)
		}
	}
	if got, want := fmt.Sprint(w.log), fmt.Sprint(log); got != want {
		return fmt.Errorf("commands\n got %s\nwant %s", got, want)
	}
	for _, part := range []struct {
		name, want string
		got        []byte
	}{
		{"SCSW", r.Expect.SCSW, irb.SCSW[:]}, {"ESW", r.Expect.ESW, irb.ESW[:]}, {"ECW", r.Expect.ECW, irb.ECW[:]},
	} {
		if got := hex.EncodeToString(part.got); got != part.want {
			return fmt.Errorf("%s\n got %s\nwant %s", part.name, got, part.want)
		}
	}
	for n := range want {
		m.page(n)
	}
	for n, p := range m {
		if q := want.page(n); *p != *q {
			for i := range p {
				if p[i] != q[i] {
					return fmt.Errorf("byte at %#x: got %02x, want %02x", n<<12+uint64(i), p[i], q[i])
				}
			}
		}
	}
	return nil
}
