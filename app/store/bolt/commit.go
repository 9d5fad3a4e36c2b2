package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bberrors "go.etcd.io/bbolt/errors"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/coalesce"
)

var (
	// errDetached refuses writes that the next start would not find.
	errDetached = fmt.Errorf("%w: the file was removed or replaced under the running service; save what it holds by a backup, then start it again", birthday.ErrUnavailable)

	// errOverwritten refuses writes to what is no longer the file that was opened.
	errOverwritten = fmt.Errorf("%w: another program wrote over the file under the running service, and what was acknowledged since it was copied is not in it; stop the service, then restore the newest copy that is whole", birthday.ErrUnavailable)

	// errUnchanged ends a transaction that has nothing to commit.
	errUnchanged = errors.New("nothing changed")

	errStillFull = fmt.Errorf("%w: the disk has no space, or does not say whether it has some again; make space on it", birthday.ErrUnavailable)
)

// change is a person to put; or one to delete, and whether there was one.
type change struct {
	person  birthday.Person
	deleted *bool // nil puts
}

// do makes a change durable, together with others that are waiting.
func (s *Store) do(ctx context.Context, c change) error {
	err := s.writer.Do(ctx, c)
	if errors.Is(err, coalesce.ErrClosed) || errors.Is(err, coalesce.ErrUnknown) || errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", birthday.ErrUnavailable, err)
	}
	return err
}

// commit makes a batch durable, and is never called twice at once.
func (s *Store) commit(changes []change) error {
	err := s.update(func(tx *bbolt.Tx) error {
		bucket, changed := tx.Bucket(peopleBucket), false
		for _, c := range changes {
			did, err := c.apply(bucket)
			if err != nil {
				return fmt.Errorf("%w: %w", coalesce.ErrAborted, err)
			}
			changed = changed || did
		}
		if !changed {
			return errUnchanged
		}
		return nil
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// apply reports whether the change changed something.
func (c change) apply(bucket *bbolt.Bucket) (bool, error) {
	key := []byte(c.person.Username)
	if c.deleted == nil {
		return true, bucket.Put(key, encode(c.person))
	}
	if *c.deleted = bucket.Get(key) != nil; !*c.deleted {
		return false, nil
	}
	return true, bucket.Delete(key)
}

// look is what was seen of the file, and when.
type look struct {
	at  time.Time // with the monotonic clock: nobody can set it back
	err error
}

// displaced returns an error when the file has lost its name, or was written over. It
// looks at most once in lookEvery: a look before each commit made a lone client a
// fifth slower.
func (s *Store) displaced() error {
	last := s.looked.Load()
	if last != nil && (errors.Is(last.err, errOverwritten) || time.Since(last.at) < lookEvery) {
		return last.err
	}
	seen := &look{at: time.Now(), err: s.look()}
	if !s.looked.CompareAndSwap(last, seen) {
		return s.looked.Load().err
	}
	return seen.err
}

// look sees what can be seen cheaply. A file that was written over with a copy is
// shorter, or its meta pages are older than those of the newest commit.
func (s *Store) look() error {
	newest := s.commits.Load() // before the file is looked at, which may get newer meanwhile
	named, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !os.SameFile(s.file, named):
		return errDetached
	case err != nil:
		return fmt.Errorf("%w: look at the file: %w", birthday.ErrUnavailable, err)
	}
	const tries = 3 // a commit may be writing its meta page, or have the file grow
	for range tries {
		var info os.FileInfo
		if info, err = s.disk.Stat(); err != nil {
			continue
		}
		var m meta
		if m, err = readMeta(s.disk, info.Size()); err == nil {
			if m.txid < newest {
				return errOverwritten
			}
			return nil
		}
	}
	return fmt.Errorf("%w: the file cannot be read as a store any more: %w", birthday.ErrUnavailable, err)
}

// refusal returns why no write is taken; nil when it is.
func (s *Store) refusal() error {
	if s.users.closed.Load() {
		return errClosed
	}
	if failed := s.failed.Load(); failed != nil {
		return *failed
	}
	return s.displaced()
}

// update runs change in a transaction and commits it. An error of change itself
// is the caller's; one of the commit tells about the disk.
func (s *Store) update(change func(*bbolt.Tx) error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	began := time.Now()
	s.began.Store(&began) // before anything is touched: a disk may hang at any page
	defer s.began.Store(nil)
	if err := s.refusal(); err != nil {
		return err
	}
	var ours error
	var number uint64
	committing := false
	defer func() {
		// A panic of the commit itself leaves bbolt locked, and the file unsure.
		// One of change was rolled back, and is the caller's.
		if committing {
			s.jammed.Store(true)
			_ = s.fail(fmt.Errorf("bbolt panicked: %s", debug.Stack()))
		}
	}()
	err := s.db.Update(func(tx *bbolt.Tx) error {
		s.db.AllocSize = int(min(max(tx.Size(), leastGrowth), growth))
		if ours = change(tx); ours == nil {
			committing, number = true, uint64(tx.ID()) //nolint:gosec // it counts from 0
		}
		return ours
	})
	committing = false
	switch {
	case err == nil:
		s.commits.Store(number)
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

// probe tries whether the disk has space again. It gives up waiting with ctx. One
// that the disk keeps is waited for by nobody, and no other is begun.
func (s *Store) probe(ctx context.Context) error {
	if !s.probing.CompareAndSwap(false, true) {
		return errStillFull
	}
	done := make(chan error, 1)
	go func() {
		defer s.probing.Store(false)
		defer func() {
			if v := recover(); v != nil { // bbolt found the file other than it must be
				done <- fmt.Errorf("panic with a %T", v)
			}
		}()
		done <- s.writeSome()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errStillFull, ctx.Err())
	}
}

// writeSome writes some pages and frees them again. One page would not do: a small
// write may find a free one in the file, where the next could not.
func (s *Store) writeSome() error {
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
