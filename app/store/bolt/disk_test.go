//go:build linux

package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

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

// TestNobodyWaitsForEverForTheDisk holds the lock that a commit holds which does
// not come to an end.
func TestNobodyWaitsForEverForTheDisk(t *testing.T) {
	t.Parallel() // it mostly waits
	s := open(t, filepath.Join(t.TempDir(), "birthday.db"))
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	tx, err := s.DB().Begin(true)
	require.NoError(t, err)
	const patience = 50 * time.Millisecond
	soon := func(do func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return do(ctx)
	}
	put := func(ctx context.Context) error { return s.Put(ctx, storetest.Person("bob", "1990-05-17")) }
	remove := func(ctx context.Context) error { return s.Delete(ctx, "ana") }
	require.ErrorIs(t, soon(remove), birthday.ErrUnavailable, "it is at work")
	require.ErrorIs(t, soon(put), birthday.ErrUnavailable, "it waits")
	require.ErrorIs(t, soon(remove), birthday.ErrUnavailable, "so does this one")
	requireStalled(t, s)

	require.NoError(t, tx.Rollback())
	require.Eventually(t, func() bool {
		_, err := s.Get(t.Context(), "ana")
		return errors.Is(err, birthday.ErrNotFound)
	}, 5*time.Second, time.Millisecond, "unknown can mean that it was done")
	require.Eventually(t, func() bool { return s.Ping(t.Context()) == nil }, 5*time.Second, time.Millisecond)
	_, err = s.Get(t.Context(), "bob")
	require.ErrorIs(t, err, birthday.ErrNotFound, "who had not begun when the caller gave up is dropped")
}

// requireStalled waits until readiness says that the disk is at one commit.
func requireStalled(t *testing.T, s *bolt.Store) {
	t.Helper()
	require.NoError(t, s.Ping(t.Context()), "not yet")
	require.Eventually(t, func() bool {
		err := s.Ping(t.Context())
		return err != nil && strings.Contains(err.Error(), "at one commit for more than 5s")
	}, 20*time.Second, 10*time.Millisecond)
}

// TestAHangBeforeTheCommitIsNoticed has a change hang, as at a page of the tree that
// the disk does not give.
func TestAHangBeforeTheCommitIsNoticed(t *testing.T) {
	t.Parallel() // it mostly waits
	s := open(t, filepath.Join(t.TempDir(), "birthday.db"))
	begun, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- s.Update(func(*bbolt.Tx) error {
			close(begun)
			<-goOn
			return nil
		})
	}()
	<-begun
	requireStalled(t, s)
	close(goOn)
	require.NoError(t, <-ended)
	require.NoError(t, s.Ping(t.Context()))
}

// TestTheEndOfACommitDoesNotHideTheNext has one commit end while the next hangs.
func TestTheEndOfACommitDoesNotHideTheNext(t *testing.T) {
	t.Parallel() // it mostly waits
	s := open(t, filepath.Join(t.TempDir(), "birthday.db"))
	hangs, goOn := make(chan struct{}), make(chan struct{})
	first, second := make(chan error), make(chan error)
	go func() {
		first <- s.Update(func(tx *bbolt.Tx) error {
			tx.OnCommit(func() { // as if this goroutine were stopped behind the commit
				go func() {
					second <- s.Update(func(tx *bbolt.Tx) error {
						tx.OnCommit(func() { close(hangs); <-goOn })
						return nil
					})
				}()
				time.Sleep(50 * time.Millisecond)
			})
			return nil
		})
	}()
	require.NoError(t, <-first)
	<-hangs
	requireStalled(t, s)
	close(goOn)
	require.NoError(t, <-second)
}

// TestCloseWaitsForTheCommitAtWork has a commit without the writers' queue, as of an
// import, in the way of Close.
func TestCloseWaitsForTheCommitAtWork(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	begun, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 2)
	go func() {
		ended <- s.Update(func(tx *bbolt.Tx) error {
			tx.OnCommit(func() { close(begun); <-goOn })
			return nil
		})
	}()
	<-begun
	go func() { ended <- s.Close() }()
	select {
	case err := <-ended:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	require.NoError(t, errors.Join(<-ended, <-ended))
	require.False(t, bolt.InUse(path))
}

// TestCloseBesideEverything is for the race detector.
func TestCloseBesideEverything(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "birthday.db"))
	var callers sync.WaitGroup
	for _, call := range []func() error{
		func() error { return s.Delete(t.Context(), "ana") },
		func() error { return s.Put(t.Context(), storetest.Person("ana", "1990-05-17")) },
		func() error { return s.PutAll(t.Context(), []birthday.Person{storetest.Person("ana", "1990-05-17")}) },
		func() error { return s.Ping(t.Context()) },
		func() error { _, err := s.Size(); return errors.Join(err, s.Ping(t.Context())) },
		func() error { _, err := s.Backup(t.Context(), io.Discard); return err },
	} {
		callers.Go(func() {
			for {
				if err := call(); errors.Is(err, birthday.ErrUnavailable) {
					return
				}
			}
		})
	}
	time.Sleep(50 * time.Millisecond) // beside all of them
	require.NoError(t, s.Close())
	callers.Wait()
}

// TestDeletesDoNotPileUp has many clients delete somebody while the disk hangs.
func TestDeletesDoNotPileUp(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "birthday.db"))
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	tx, err := s.DB().Begin(true)
	require.NoError(t, err)
	before := runtime.NumGoroutine()
	for range 10_000 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Microsecond)
		require.Error(t, s.Delete(ctx, "ana"))
		cancel()
	}
	require.Less(t, runtime.NumGoroutine(), before+10)
	require.NoError(t, tx.Rollback())
}

// TestProbesOfAFullDiskDoNotPileUp has readiness asked while the disk is full and
// then hangs.
func TestProbesOfAFullDiskDoNotPileUp(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "birthday.db"))
	lift := limitFiles(t, 1<<20)
	putUntilFull(t, s)
	lift()
	tx, err := s.DB().Begin(true)
	require.NoError(t, err)
	before := runtime.NumGoroutine()
	for range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		require.ErrorContains(t, s.Ping(ctx), "make space")
		cancel()
	}
	require.Less(t, runtime.NumGoroutine(), before+10)
	require.NoError(t, tx.Rollback())
	require.Eventually(t, func() bool { return s.Ping(t.Context()) == nil }, 5*time.Second, time.Millisecond)
}

// TestASlowCopyStopsNobody keeps a snapshot open, as a copy to a disk that hangs
// does, while the file grows to many times its size.
func TestASlowCopyStopsNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	snapshot, err := s.Snapshot()
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		ended <- func() error {
			for n := range 60 {
				batch := make([]birthday.Person, 50)
				for i := range batch {
					name := storetest.Username(n*len(batch) + i)
					batch[i] = storetest.Person(string(name)+strings.Repeat("x", 50), "1990-05-17")
				}
				slices.SortFunc(batch, func(a, b birthday.Person) int { return strings.Compare(string(a.Username), string(b.Username)) })
				if err := s.PutAll(t.Context(), batch); err != nil {
					return err
				}
			}
			_, err := s.Get(t.Context(), "ana")
			return errors.Join(err, s.Ping(t.Context()))
		}()
	}()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(60 * time.Second):
		t.Error("writers, readers and readiness wait for the snapshot")
		require.NoError(t, snapshot.Close())
		require.NoError(t, <-ended)
		return
	}
	size, err := s.Size()
	require.NoError(t, err)
	require.Greater(t, size, 16*snapshot.Size())
	var copied bytes.Buffer
	_, err = snapshot.WriteTo(&copied)
	require.NoError(t, errors.Join(err, snapshot.Close()))
	target := filepath.Join(t.TempDir(), "copy.db")
	require.NoError(t, os.WriteFile(target, copied.Bytes(), 0o600))
	report, err := bolt.Verify(target)
	require.NoError(t, err)
	require.Equal(t, 1, report.People, "as it was when the snapshot was made")
}

// hung is a target that takes nothing until it is let go.
type hung struct{ goOn chan struct{} }

func (h hung) Write(b []byte) (int, error) { <-h.goOn; return len(b), nil }

func TestACopyEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	target := hung{make(chan struct{})}
	defer close(target.goOn)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { _, err := s.Backup(ctx, target); ended <- err }()
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.NoError(t, s.Close())
	require.False(t, bolt.InUse(path), "it has let go of the file")
}

func TestACopyGivesUpATargetThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	synctest.Test(t, func(t *testing.T) {
		s, err := bolt.Open(path, bolt.Options{})
		require.NoError(t, err)
		target, begin := hung{make(chan struct{})}, time.Now()
		_, err = s.Backup(t.Context(), target)
		require.ErrorContains(t, err, "the target of the copy has taken nothing for 30s")
		require.Equal(t, 30*time.Second, time.Since(begin))
		close(target.goOn)
		require.NoError(t, s.Close())
	})
	require.False(t, bolt.InUse(path))
}

func TestCloseLeavesASnapshotWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	snapshot, err := s.Snapshot()
	require.NoError(t, err)
	require.NoError(t, s.Close(), "it does not wait")
	_, err = s.Get(t.Context(), "ana")
	require.ErrorIs(t, err, birthday.ErrUnavailable)
	_, err = s.Snapshot()
	require.ErrorIs(t, err, birthday.ErrUnavailable)
	require.True(t, bolt.InUse(path))
	written, err := snapshot.WriteTo(io.Discard)
	require.NoError(t, err)
	require.Equal(t, snapshot.Size(), written)
	require.NoError(t, snapshot.Close())
	require.False(t, bolt.InUse(path))
}

// TestAFileThatIsWrittenOverIsNoticed copies an old copy over the file, as cp does.
func TestAFileThatIsWrittenOverIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	var old bytes.Buffer
	_, err := s.Backup(t.Context(), &old)
	require.NoError(t, err)
	require.NoError(t, s.Put(t.Context(), storetest.Person("bob", "1990-05-17")))
	require.NoError(t, s.Ping(t.Context()))

	file, err := os.OpenFile(path, os.O_WRONLY, 0) // O_TRUNC would be a race with the memory map
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
