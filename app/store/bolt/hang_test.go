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
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/storetest"
)

// TestNobodyWaitsForEverForTheDisk holds the lock that a commit holds which does
// not come to an end.
func TestNobodyWaitsForEverForTheDisk(t *testing.T) {
	t.Parallel() // it mostly waits
	s := open(t, filepath.Join(t.TempDir(), "birthday.db"))
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	tx, err := s.DB().Begin(true)
	require.NoError(t, err)
	const timeout = 50 * time.Millisecond
	soon := func(do func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
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
	lift := limitFiles(t, 3<<20)
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
