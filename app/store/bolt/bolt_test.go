package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens the store at path; a failure of its disk fails the test.
func open(t testing.TB, path string) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(path, bolt.Options{Failed: func(err error) { t.Errorf("the disk failed: %v", err) }, Own: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) birthday.Store {
		return open(t, filepath.Join(t.TempDir(), "birthday.db"))
	})
}

func TestPeopleOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	for n := range 1000 {
		require.NoError(t, s.Put(t.Context(), storetest.Person(storetest.Username(n), "1990-05-17")))
	}
	require.NoError(t, s.Delete(t.Context(), storetest.Username(7)))
	require.NoError(t, s.Close())

	s = open(t, path)
	people, err := s.After(t.Context(), "", 2000)
	require.NoError(t, err)
	require.Len(t, people, 999)
}

func TestAnImpossibleDateIsNotStored(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "birthday.db"))
	require.ErrorContains(t, s.Put(t.Context(), birthday.Person{Username: "ana"}), "no day of the calendar")
	_, err := s.Get(t.Context(), "ana")
	require.ErrorIs(t, err, birthday.ErrNotFound)
}

func TestTheFileIsPrivate(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "birthday.db")
	open(t, path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, files, 1, "no temporary file is left")
}

func TestSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	size, err := open(t, path).Size()
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, info.Size(), size)
}

func TestAFileHasOneOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	owner := open(t, path)
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := bolt.Open(path, bolt.Options{})
		require.ErrorIs(t, err, bolt.ErrLocked)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, "stop that process")
		require.InDelta(t, 5, time.Since(start).Seconds(), 0.2)
	})
	require.NoError(t, owner.Close())
	open(t, path)
}

func TestTwoProcessesMayCreateAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	const rivals = 8
	ana := storetest.Person("ana", "1990-05-17")
	results := make(chan error, rivals)
	for range rivals {
		go func() {
			s, err := bolt.Open(path, bolt.Options{})
			if err == nil {
				err = errors.Join(s.Put(context.Background(), ana), s.Close())
			}
			results <- err
		}()
	}
	for range rivals {
		require.NoError(t, <-results)
	}
}

func TestAMissingFolderIsExplained(t *testing.T) {
	_, err := bolt.Open(filepath.Join(t.TempDir(), "no", "such", "birthday.db"), bolt.Options{})
	require.ErrorContains(t, err, "does not exist; make it (mkdir -p ")
}

// TestReleasedFormats opens the files that released versions wrote; see
// testdata/README.md.
func TestReleasedFormats(t *testing.T) {
	for _, file := range []string{"format-1.db"} {
		t.Run(file, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), file)
			copyFile(t, filepath.Join("testdata", file), path)
			s := open(t, path)
			people, err := s.After(t.Context(), "", 100)
			require.NoError(t, err)
			require.Equal(t, []birthday.Person{
				storetest.Person("Ana", "1990-05-17"),
				storetest.Person("ana", "0001-01-01"),
				storetest.Person("leap", "2000-02-29"),
				storetest.Person("Ána", "9999-12-31"),
				storetest.Person("さくら", "1969-12-31"),
			}, people)
		})
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	source, err := os.Open(from)
	require.NoError(t, err)
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = io.Copy(target, source)
	require.NoError(t, errors.Join(err, target.Close()))
}

func BenchmarkVerify(b *testing.B) {
	path := filepath.Join(b.TempDir(), "birthday.db")
	s := open(b, path)
	const people = 100_000
	fill(b, s, people)
	require.NoError(b, s.Close())
	b.ResetTimer()
	for b.Loop() {
		report, err := bolt.Verify(path)
		require.NoError(b, err)
		require.Equal(b, people, report.People)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/people, "ns/person")
}

// fill puts many people, from enough writers that they share commits.
func fill(t testing.TB, s birthday.Store, people int) {
	const writers = 256
	born := storetest.Person("x", "1990-05-17").Born
	results := make(chan error, writers)
	for w := range writers {
		go func() {
			var err error
			for n := w; n < people && err == nil; n += writers {
				err = s.Put(context.Background(), birthday.Person{Username: storetest.Username(n * 7919), Born: born})
			}
			results <- err
		}()
	}
	for range writers {
		require.NoError(t, <-results)
	}
}

func ExampleOpen() {
	folder, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(folder) }()

	store, err := bolt.Open(filepath.Join(folder, "birthday.db"), bolt.Options{Failed: func(err error) { fmt.Println("stop:", err) }})
	if err != nil {
		panic(err)
	}
	defer func() { _ = store.Close() }()
	_, err = store.Get(context.Background(), "ana")
	fmt.Println(errors.Is(err, birthday.ErrNotFound))
	// Output: true
}
