package translate_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// slice is remote memory that is near.
type slice []byte

func (s slice) ReadAt(p []byte, off int64) (int, error)  { return copy(p, s[off:]), nil }
func (s slice) WriteAt(p []byte, off int64) (int, error) { return copy(s[off:], p), nil }

// A Far reaches the bytes that Read and Write reach, in one mapping of remote
// memory, for the access that the mapping allows; what it writes is in the
// dirty log.
func TestFar(t *testing.T) {
	st, err := translate.New(nil)
	require.NoError(t, err)
	defer st.Close()
	mem := make(slice, 4*4096)
	const at = addr.IOVA(1 << 30)
	require.NoError(t, st.Map(at, 2*4096, translate.Remote(mem), addr.ReadWrite))
	require.NoError(t, st.Map(at+2*4096, 4096, translate.Remote(mem), addr.Read))
	require.NoError(t, st.Map(at+3*4096, 4096, translate.Bytes(make([]byte, 4096)), addr.ReadWrite))
	require.NoError(t, st.DirtyStart())
	r := st.NewReader()
	defer r.Close()

	f, err := r.Far(at+4090, 8, addr.ReadWrite)
	require.NoError(t, err)
	require.NoError(t, f.Write([]byte("softmdev")))
	require.Equal(t, "softmdev", string(mem[4090:4098]))
	b := make([]byte, 8)
	require.NoError(t, f.Read(b))
	require.Equal(t, "softmdev", string(b))
	dirty := make([]uint64, 1)
	require.NoError(t, st.DirtyGet(at, 2*4096, 4096, dirty, true))
	require.Equal(t, uint64(0b11), dirty[0])

	for _, tt := range []struct {
		name string
		at   addr.IOVA
		n    addr.Len
		want addr.Access
		err  error
	}{
		{"not mapped", at - 1, 1, addr.Read, errs.ErrNotMapped},
		{"not to be written", at + 2*4096, 1, addr.Write, errs.ErrPermission},
		{"crosses mappings", at + 2*4096 - 1, 2, addr.Read, errs.ErrInvalid},
		{"not remote", at + 3*4096, 1, addr.Read, errs.ErrInvalid},
		{"nothing", at, 0, addr.Read, errs.ErrInvalid},
		{"passes 2^64", ^addr.IOVA(0), 2, addr.Read, errs.ErrOverflow},
	} {
		_, err := r.Far(tt.at, tt.n, tt.want)
		require.ErrorIs(t, err, tt.err, tt.name)
	}
}
