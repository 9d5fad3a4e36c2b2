package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bberrors "go.etcd.io/bbolt/errors"

	"birthday-demo/app/birthday"
)

// errDetached refuses writes that the next start would not find.
var errDetached = fmt.Errorf("%w: the file was removed or replaced under the running service; save what it holds by a backup, then start it again", birthday.ErrUnavailable)

// detached says whether the file has lost its name. It looks at most once in
// lookEvery: a look before each commit made a lone client a fifth slower.
func (s *Store) detached() bool {
	now := time.Now().UnixNano()
	if last := s.looked.Load(); now-last >= int64(lookEvery) && s.looked.CompareAndSwap(last, now) {
		s.gone.Store(replaced(s.file, s.db.Path()))
	}
	return s.gone.Load()
}

// update runs change in a transaction and commits it. An error of change itself
// is the caller's; one of the commit tells about the disk.
func (s *Store) update(change func(*bbolt.Tx) error) error {
	if failed := s.failed.Load(); failed != nil {
		return *failed
	}
	if s.detached() {
		return errDetached
	}
	ours, committing := error(nil), false
	defer func() {
		// A panic of the commit itself leaves bbolt locked, and the file unsure.
		// One of change was rolled back, and is the caller's.
		if committing {
			_ = s.fail(fmt.Errorf("bbolt panicked: %s", debug.Stack()))
		}
	}()
	err := s.db.Update(func(tx *bbolt.Tx) error {
		if ours = change(tx); ours == nil {
			committing = true
			s.since.Store(time.Now().UnixNano())
		}
		return ours
	})
	committing = false
	s.since.Store(0)
	switch {
	case err == nil:
		return nil
	case ours != nil || errors.Is(err, bberrors.ErrDatabaseNotOpen):
		return closedIsUnavailable(err)
	case noSpace(err):
		s.full.Store(true)
		return fmt.Errorf("%w: %w; make space on the disk", birthday.ErrUnavailable, err)
	}
	return s.fail(err)
}

// fail remembers that the disk did not keep a commit and says so, once. After a
// failed sync the kernel may drop what it could not write and report success
// the next time, so nothing but a fresh look at the file can be trusted.
func (s *Store) fail(cause error) error {
	err := fmt.Errorf("%w: the disk failed to keep a commit, so the file must be opened afresh: %w", birthday.ErrUnavailable, cause)
	if s.failed.CompareAndSwap(nil, &err) {
		s.onFail(err)
	}
	return err
}

// noSpace says whether a commit failed only for want of space: the write itself
// was refused, nothing was synced, and the next one may succeed. A sync that
// reports want of space is another matter: what it was to sync is in doubt.
func noSpace(err error) bool {
	const growing = "file resize error" // bbolt gives this one as text only
	var write *fs.PathError
	isWrite := errors.As(err, &write) && write.Op == "write"
	for _, reason := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if isWrite && errors.Is(err, reason) ||
			strings.Contains(err.Error(), growing) && strings.Contains(err.Error(), reason.Error()) {
			return true
		}
	}
	return false
}

// patiently runs a write, which cannot be cancelled, and leaves it to itself when
// ctx ends. Without time it does not begin.
func patiently(ctx context.Context, write func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil { // bbolt found the file other than it must be
				done <- fmt.Errorf("panic with a %T", v)
			}
		}()
		done <- write()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: gave up waiting for the disk, the outcome is unknown: %w", birthday.ErrUnavailable, ctx.Err())
	}
}

// probe writes some pages and frees them again, to see whether the disk has
// space. One page would not do: a small write may find a free one in the file,
// where the next could not.
func (s *Store) probe() error {
	err := s.update(func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put(probeKey, make([]byte, probeSize))
	})
	if err != nil {
		return err
	}
	if err := s.update(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Delete(probeKey) }); err != nil {
		return err
	}
	s.full.Store(false)
	return nil
}
