//go:build linux

package bolt_test

import (
	"os"
	"path/filepath"
	"strconv"
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

func TestAFullDiskRefusesWritesUntilThereIsSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	for range 5 { // leave free pages, so that a write need not grow the file
		require.NoError(t, s.Put(t.Context(), person(t, "ana", "1990-05-17")))
	}
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	require.NoError(t, err)
	defer func() { _ = full.Close() }()

	restore := replaceDisk(t, path, full)
	err = s.Put(t.Context(), person(t, "ana", "1991-06-18"))
	require.ErrorIs(t, err, birthday.ErrUnavailable)
	require.ErrorContains(t, err, "make space on the disk")
	require.ErrorIs(t, s.Delete(t.Context(), "ana"), birthday.ErrUnavailable)
	require.ErrorIs(t, s.Ping(t.Context()), birthday.ErrUnavailable)
	p, err := s.Get(t.Context(), "ana")
	require.NoError(t, err)
	require.Equal(t, person(t, "ana", "1990-05-17"), p, "reads go on")

	restore()
	require.NoError(t, s.Ping(t.Context()), "ping notices the space without a write")
	require.NoError(t, s.Put(t.Context(), person(t, "ana", "1991-06-18")))
	require.NoError(t, s.Close())
	require.NoError(t, bolt.Verify(path))
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
