//go:build linux

package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/storetest"
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
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE != unix.O_RDWR {
			continue // only looked at
		}
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
	born := storetest.Person("x", "1990-05-17").Born
	var mu sync.Mutex
	var writers sync.WaitGroup
	for w := range 64 {
		writers.Go(func() {
			for n := w; ; n += 64 {
				p := birthday.Person{Username: storetest.Username(n) + birthday.Username(strings.Repeat("x", 50)), Born: born}
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
	lift := limitFiles(t, 3<<20) // the log of the test itself must fit, too
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

// TestAStartWritesTheNewestMetaPageAgain allows writes to the first page only, and
// has each of the two meta pages be the newest.
func TestAStartWritesTheNewestMetaPageAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	var refused []bool
	for range 2 {
		s := open(t, path)
		require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
		require.NoError(t, s.Close())
		lift := limitFiles(t, uint64(os.Getpagesize()))
		s, err := bolt.Open(path, bolt.Options{})
		lift()
		if err == nil {
			require.NoError(t, s.Close())
		} else {
			require.ErrorContains(t, err, path+": write the newest meta page again: ")
		}
		refused = append(refused, err != nil)
	}
	require.ElementsMatch(t, []bool{true, false}, refused)
}

// TestNoFileMayBeOpenedAnyMore is a flood of connections to a port without a limit.
func TestNoFileMayBeOpenedAnyMore(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "birthday.db"))
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: before.Max}))
	defer func() { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)) }()
	_, err := os.Open(os.DevNull)
	require.ErrorIs(t, err, syscall.EMFILE)
	for begin := time.Now(); time.Since(begin) < 300*time.Millisecond; { // until the file is looked at again
		require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
		require.NoError(t, s.Ping(t.Context()))
	}
}

// TestAFileThatIsWrittenOverIsNoticed copies an old copy over the file. cp cuts the
// file off first: a reader in that moment ends the process.
func TestAFileThatIsWrittenOverIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	var old bytes.Buffer
	_, err := s.Backup(t.Context(), &old)
	require.NoError(t, err)
	require.NoError(t, s.Put(t.Context(), storetest.Person("bob", "1990-05-17")))
	require.NoError(t, s.Ping(t.Context()))

	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.Write(old.Bytes())
	require.NoError(t, errors.Join(err, file.Close()))
	require.Eventually(t, func() bool { return s.Ping(t.Context()) != nil }, 5*time.Second, time.Millisecond)
	require.ErrorContains(t, s.Ping(t.Context()), "another program wrote over the file")
	require.ErrorIs(t, s.Put(t.Context(), storetest.Person("eve", "1990-05-17")), birthday.ErrUnavailable)
}

// TestAPanicOfTheCommitEndsTheStore damages the list of free pages under the open
// store, as a stray program might.
func TestAPanicOfTheCommitEndsTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	failures := make(chan error, 1)
	s, err := bolt.Open(path, bolt.Options{Failed: func(err error) { failures <- err }})
	require.NoError(t, err)
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	const pageSize, freelist = 4096, 0x10
	for page := 2 * pageSize; page < len(content); page += pageSize {
		if content[page+8] == freelist {
			_, err = file.WriteAt(make([]byte, pageSize), int64(page))
			require.NoError(t, err)
		}
	}
	require.NoError(t, file.Close())
	require.Error(t, s.Put(t.Context(), storetest.Person("bob", "1990-05-17")))
	require.ErrorContains(t, <-failures, "panicked")
	require.Error(t, s.Ping(t.Context()))
	require.ErrorIs(t, s.Put(t.Context(), storetest.Person("bob", "1990-05-17")), birthday.ErrUnavailable)
	require.NoError(t, s.Close(), "and closing does not hang")
}

func TestAFileThatIsGoneIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	require.NoError(t, os.Remove(path))
	require.Eventually(t, func() bool { return s.Ping(t.Context()) != nil }, 5*time.Second, time.Millisecond)
	require.ErrorContains(t, s.Ping(t.Context()), "removed or replaced")
	require.ErrorIs(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")), birthday.ErrUnavailable, "nothing is acknowledged that a start would not find")
}

func TestAFailedDiskEndsTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	var failures []error
	s, err := bolt.Open(path, bolt.Options{Failed: func(err error) { failures = append(failures, err) }})
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	readOnly, err := os.Open(os.DevNull) // every write to it fails
	require.NoError(t, err)
	defer func() { _ = readOnly.Close() }()

	restore := replaceDisk(t, path, readOnly)
	require.ErrorIs(t, s.Put(t.Context(), storetest.Person("bob", "1991-06-18")), birthday.ErrUnavailable)
	restore()
	require.Len(t, failures, 1)
	require.ErrorContains(t, failures[0], "opened afresh")
	require.ErrorIs(t, s.Put(t.Context(), storetest.Person("bob", "1991-06-18")), birthday.ErrUnavailable, "also when the disk is well again")
	require.ErrorIs(t, s.Delete(t.Context(), "ana"), birthday.ErrUnavailable)
	require.ErrorIs(t, s.Ping(t.Context()), birthday.ErrUnavailable)
	require.Len(t, failures, 1, "it is said once")
	_, err = s.Get(t.Context(), "ana")
	require.NoError(t, err, "what was acknowledged is still there")
}
