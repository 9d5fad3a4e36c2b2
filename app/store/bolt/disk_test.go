//go:build linux

package bolt_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/bolt"
)

// replaceDisk puts another open file in the place of the store's, for every
// write and sync to come, and gives the way back. The memory map stays.
func replaceDisk(t *testing.T, path string, other *os.File) (restore func()) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, entry := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err != nil || target != path {
			continue
		}
		fd, err := strconv.Atoi(entry.Name())
		require.NoError(t, err)
		saved, err := syscall.Dup(fd)
		require.NoError(t, err)
		require.NoError(t, syscall.Dup3(int(other.Fd()), fd, syscall.O_CLOEXEC))
		return func() {
			require.NoError(t, syscall.Dup3(saved, fd, syscall.O_CLOEXEC))
			require.NoError(t, syscall.Close(saved))
		}
	}
	t.Fatalf("%s is not open", path)
	return nil
}

// limitFiles bounds the size of every file that this process writes, which the
// system reports as it does a full disk.
func limitFiles(t *testing.T, size uint64) (lift func()) {
	t.Helper()
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: before.Max}))
	return func() { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)) }
}

// putUntilFull puts people until there is no space, from many writers at once,
// and gives those that were acknowledged and one that was not.
func putUntilFull(t *testing.T, s *bolt.Store) (kept []birthday.Person, refused birthday.Person) {
	born := person(t, "x", "1990-05-17").Born
	var mu sync.Mutex
	var writers sync.WaitGroup
	for w := range 64 {
		writers.Go(func() {
			for n := w; ; n += 64 {
				p := birthday.Person{Username: birthday.Username(name(n) + strings.Repeat("x", 50)), Born: born}
				err := s.Put(context.Background(), p)
				mu.Lock()
				if err != nil {
					refused = p
					if !errors.Is(err, birthday.ErrUnavailable) || !strings.Contains(err.Error(), "make space on the disk") {
						t.Errorf("put: %v", err)
					}
				} else {
					kept = append(kept, p)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	writers.Wait()
	return kept, refused
}

func TestAFullDiskRefusesWritesUntilThereIsSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	lift := limitFiles(t, 1<<20) // the log of the test itself must fit, too
	defer lift()
	kept, refused := putUntilFull(t, s)
	require.ErrorIs(t, s.Ping(t.Context()), birthday.ErrUnavailable)
	require.ErrorIs(t, s.Ping(t.Context()), birthday.ErrUnavailable)
	for _, want := range kept {
		p, err := s.Get(t.Context(), want.Username)
		require.NoError(t, err, "reads go on")
		require.Equal(t, want, p)
	}
	_, err := s.Get(t.Context(), refused.Username)
	require.ErrorIs(t, err, birthday.ErrNotFound)

	lift()
	require.NoError(t, s.Ping(t.Context()), "ping notices the space without a write")
	require.NoError(t, s.Put(t.Context(), refused))
	require.NoError(t, s.Close())
	report, err := bolt.Verify(path)
	require.NoError(t, err)
	require.Equal(t, len(kept)+1, report.People)
}

func TestAFailedDiskEndsTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	var failures []error
	s, err := bolt.Open(path, func(err error) { failures = append(failures, err) })
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	require.NoError(t, s.Put(t.Context(), person(t, "ana", "1990-05-17")))
	readOnly, err := os.Open(os.DevNull) // every write to it fails
	require.NoError(t, err)
	defer func() { _ = readOnly.Close() }()

	restore := replaceDisk(t, path, readOnly)
	require.ErrorIs(t, s.Put(t.Context(), person(t, "bob", "1991-06-18")), birthday.ErrUnavailable)
	restore()
	require.Len(t, failures, 1)
	require.ErrorContains(t, failures[0], "opened afresh")
	require.ErrorIs(t, s.Put(t.Context(), person(t, "bob", "1991-06-18")), birthday.ErrUnavailable, "also when the disk is well again")
	require.ErrorIs(t, s.Delete(t.Context(), "ana"), birthday.ErrUnavailable)
	require.ErrorIs(t, s.Ping(t.Context()), birthday.ErrUnavailable)
	require.Len(t, failures, 1, "it is said once")
	_, err = s.Get(t.Context(), "ana")
	require.NoError(t, err, "what was acknowledged is still there")
}
