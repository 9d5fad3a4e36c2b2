package bolt_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/storetest"
)

// refused tries to open content as a store, and requires that the file is
// refused and not changed.
func refused(t *testing.T, content []byte, why string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "birthday.db")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	_, err := bolt.Open(path, bolt.Options{})
	require.ErrorIs(t, err, bolt.ErrDamaged)
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, err, why)
	require.ErrorContains(t, err, "restore a backup")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, content, after, "a refused file is not changed")
}

func TestForeignFilesAreRefused(t *testing.T) {
	refused(t, []byte{}, "empty")
	refused(t, []byte("username,dateOfBirth\nana,1990-05-17\n"), "cannot be used")
	refused(t, make([]byte, 100_000), "cannot be used")
	refused(t, foreign(t, "other"), "not a store of this service")
	refused(t, foreign(t, "people"), "not a store of this service")
	refused(t, foreign(t, "people", "meta"), "not a store of this service")
}

// foreign is a bbolt file of another program.
func foreign(t *testing.T, buckets ...string) []byte {
	path := filepath.Join(t.TempDir(), "foreign.db")
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	}))
	require.NoError(t, db.Close())
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return content
}

func TestANewerFormatIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	require.NoError(t, open(t, path).Close())
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("format"), []byte("birthday-demo 2"))
	}))
	require.NoError(t, db.Close())
	_, err = bolt.Open(path, bolt.Options{})
	require.ErrorIs(t, err, bolt.ErrDamaged)
	require.ErrorContains(t, err, `format "birthday-demo 2"`)
}

func TestAFolderIsRefused(t *testing.T) {
	_, err := bolt.Open(t.TempDir(), bolt.Options{})
	require.ErrorIs(t, err, bolt.ErrDamaged)
	require.ErrorContains(t, err, "no regular file")
}

// sample is a file with branches, overflow pages, free pages and both kinds of
// buckets, and the people in it.
func sample(t *testing.T) ([]byte, []birthday.Person) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	fill(t, s, 600)
	for n := range 200 {
		require.NoError(t, s.Delete(t.Context(), storetest.Username(n*3*7919)))
	}
	people, err := s.After(t.Context(), "", 1000)
	require.NoError(t, err)
	require.Len(t, people, 400)
	require.NoError(t, s.Close())
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return content, people
}

// judge opens damaged content and says whether it was refused. A store that
// opens must give exactly the people that were put.
func judge(t *testing.T, content []byte, people []birthday.Person) (wasRefused bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "birthday.db")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	s, err := bolt.Open(path, bolt.Options{Failed: func(error) {}})
	if err != nil {
		require.ErrorIs(t, err, bolt.ErrDamaged)
		return true
	}
	got, err := s.After(t.Context(), "", 1000)
	require.NoError(t, err)
	require.Equal(t, people, got)
	for _, want := range people {
		if p, err := s.Get(t.Context(), want.Username); err != nil || p != want {
			t.Fatalf("got %v, %v instead of %v", p, err, want)
		}
	}
	require.NoError(t, s.Close())
	return false
}

func TestCutOffFilesAreRefused(t *testing.T) {
	content, people := sample(t)
	refusals := 0
	for cut := len(content) - 1; cut > 0; cut -= 1021 {
		if judge(t, content[:cut], people) {
			refusals++
		}
	}
	require.Positive(t, refusals)
	require.True(t, judge(t, content[:len(content)/2], people))
}

// TestFlippedBitsAreRefused flips bits one at a time: all of the first page's
// that mean something, and random ones of the others'. The file is refused or
// the answers are right.
func TestFlippedBitsAreRefused(t *testing.T) {
	content, people := sample(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var bits []int
	for bit := range 80 * 8 { // a page's header and a meta page
		bits = append(bits, bit, 4096*8+bit)
	}
	for page := 2; page < len(content)/4096; page++ {
		for range 16 {
			bits = append(bits, page*4096*8+random.IntN(16*8)) // its header
		}
		for range 64 {
			bits = append(bits, page*4096*8+random.IntN(4096*8))
		}
	}
	refusals := 0
	for _, bit := range bits {
		content[bit/8] ^= 1 << (bit % 8)
		if judge(t, content, people) {
			refusals++
		}
		content[bit/8] ^= 1 << (bit % 8)
	}
	t.Logf("%d of %d files with one flipped bit were refused", refusals, len(bits))
	require.Greater(t, refusals, len(bits)/4)
}

func TestVerifyTakesLittleMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	var people []birthday.Person
	for n := range 100_000 {
		people = append(people, birthday.Person{Username: storetest.Username(n), Born: storetest.Person("x", "1990-05-17").Born})
	}
	require.NoError(t, s.PutAll(t.Context(), people))
	require.NoError(t, s.Close())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	report, err := bolt.Verify(path)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Equal(t, 100_000, report.People)
	require.Greater(t, report.Bytes, int64(3<<20))
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

func FuzzVerify(f *testing.F) {
	path := filepath.Join(f.TempDir(), "birthday.db")
	s := open(f, path)
	fill(f, s, 300)
	require.NoError(f, s.Close())
	content, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(uint32(8), []byte{0xff})
	f.Add(uint32(3*4096), []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, offset uint32, patch []byte) {
		damaged := append([]byte(nil), content...)
		copy(damaged[int(offset)%len(damaged):], patch)
		path := filepath.Join(t.TempDir(), "birthday.db")
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		if _, err := bolt.Verify(path); err != nil && !errors.Is(err, bolt.ErrDamaged) {
			t.Fatalf("neither right nor damaged: %v", err)
		}
	})
}
