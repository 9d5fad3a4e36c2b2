package bolt_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/storetest"
)

// cachedFile is a file as the kernel keeps it after a sync that failed: reads come
// from the cache, and only what is written from now on reaches the disk, when it is
// synced.
type cachedFile struct {
	*bytes.Reader // the cache
	disk          []byte
	dirty         []func()
}

func (f *cachedFile) WriteAt(data []byte, offset int64) (int, error) {
	data = bytes.Clone(data)
	f.dirty = append(f.dirty, func() { copy(f.disk[offset:], data) })
	return len(data), nil
}

func (f *cachedFile) Sync() error {
	for _, write := range f.dirty {
		write()
	}
	f.dirty = nil
	return nil
}

// TestTheFirstCommitAfterACrashLeavesTheDiskInOrder has a commit whose meta page
// is in the cache only, and after it another whose pages are on the disk already
// and whose meta page is not.
func TestTheFirstCommitAfterACrashLeavesTheDiskInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	fill(t, s, 5000)
	require.NoError(t, s.Close())
	_, err := bolt.Compact(t.Context(), path) // so that there are few free pages to choose from
	require.NoError(t, err)
	s = open(t, path)
	read := func() []byte {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		return content
	}
	metaPages := 2 * os.Getpagesize()
	verify := func(data, meta []byte) error {
		image := filepath.Join(t.TempDir(), "image.db")
		require.NoError(t, os.WriteFile(image, append(bytes.Clone(meta[:metaPages]), data[metaPages:]...), 0o600))
		_, err := bolt.Verify(image)
		return err
	}
	before := read()
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	require.NoError(t, s.Close())
	cache := read()
	disk := append(bytes.Clone(before[:metaPages]), cache[metaPages:]...)
	require.NoError(t, bolt.RewriteMeta(&cachedFile{Reader: bytes.NewReader(cache), disk: disk}, int64(len(cache))))

	s = open(t, path)
	require.NoError(t, s.Put(t.Context(), storetest.Person("bob", "1990-05-17")))
	after := read()
	require.ErrorIs(t, verify(after, before), bolt.ErrDamaged, "the image shows what the page is written again for")
	require.NoError(t, verify(after, disk))
}
