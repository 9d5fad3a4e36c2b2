// Package bolt keeps people in one bbolt file on a local disk. A write that was
// acknowledged is synced to the disk; writers that come together share one
// sync. The file has one owner: a second process is refused. The package knows
// nothing of HTTP, of clocks, or of what a birthday is good for.
//
// Network file systems are outside what bbolt promises: its lock and its memory
// map need a local disk.
package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bberrors "go.etcd.io/bbolt/errors"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/coalesce"
)

var (
	// ErrLocked says that another process has the file open.
	ErrLocked = errors.New("in use by another process")

	// ErrDamaged marks a file that cannot be trusted: damaged, cut off, or
	// not one of ours. Such a file is never changed.
	ErrDamaged = errors.New("the file cannot be used")

	errNoDay = errors.New("the birth date is no day of the calendar")
)

const (
	// lockTimeout is how long Open waits for another process to let go.
	lockTimeout = 5 * time.Second

	// maxBatch bounds one commit: as many as may be in flight by default.
	maxBatch = 1024

	// stallTimeout is how long a commit may take before the store counts as
	// not working.
	stallTimeout = 5 * time.Second

	// growth is by how many bytes a large file grows: bbolt's 16 MiB would be
	// a third of the file of a million people.
	growth = 1 << 20

	// lookEvery is how often it is looked whether the file still has its name.
	lookEvery = 100 * time.Millisecond

	// importFill is how full, of 1, imports make a page.
	importFill = 0.9

	// probeSize is how much space a full disk must have again, in bytes.
	probeSize = 64 << 10
)

// Names of the buckets, and what the meta bucket holds.
var (
	peopleBucket = []byte("people") // username in NFC → record
	metaBucket   = []byte("meta")   // formatKey → formatValue
	formatKey    = []byte("format")
	formatName   = []byte("birthday-demo ")
	formatValue  = []byte("birthday-demo 1")
	probeKey     = []byte("probe") // written to see whether the disk has space again
)

// Store is a birthday.Store in one bbolt file.
type Store struct {
	db     *bbolt.DB
	file   os.FileInfo // of the file that db has open
	writer *coalesce.Writer[birthday.Person]
	full   atomic.Bool // a write found no space, and since then the probe found none either
	failed atomic.Pointer[error]
	onFail func(error)
	since  atomic.Int64 // when the commit at work began, in Unix nanoseconds; 0 is none
	looked atomic.Int64 // when the file's name was looked at, in Unix nanoseconds
	gone   atomic.Bool  // what was seen then
	close  func() error
}

var _ birthday.Store = (*Store)(nil)

// Open opens the file at path, or creates it with mode 0600 when there is none.
// It reads the whole file once to verify it: some 0.1 s for a million people.
//
// onFail is called at most once, when the disk failed to keep a commit. From
// then on every write is refused: what the disk holds can only be known by
// opening the file afresh, so the process should end.
//
// Open waits up to 5 seconds for another process to let go of the file, then
// gives ErrLocked. A file that is damaged, cut off or foreign gives ErrDamaged
// and is left as it is.
func Open(path string, onFail func(error)) (*Store, error) {
	if err := createIfMissing(path); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db, file, err := openVerified(path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	_ = syncPath(filepath.Dir(path)) // in case a crash came between the file's name and its sync
	s := &Store{db: db, file: file, onFail: onFail}
	s.writer = coalesce.New(maxBatch, s.putAll)
	s.close = sync.OnceValue(func() error {
		s.writer.Close()
		if s.since.Load() != 0 { // a commit panicked and holds bbolt's locks for ever
			return nil
		}
		return db.Close()
	})
	return s, nil
}

// openVerified verifies the file at path, then opens and locks it.
func openVerified(path string) (db *bbolt.DB, file os.FileInfo, err error) {
	if _, err := Verify(path); err != nil {
		return nil, nil, err
	}
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      lockTimeout,
		FreelistType: bbolt.FreelistMapType,
		NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
			if f, err = os.OpenFile(name, flag, mode); err == nil { //nolint:gosec // the operator names the path
				file, err = f.Stat()
			}
			return f, err
		},
	})
	if err != nil {
		return nil, nil, openError(path, err)
	}
	db.AllocSize = growth
	if replaced(file, path) { // by a restore, say, while we waited for the lock
		_ = db.Close() // nothing was written
		return openVerified(path)
	}
	return db, file, nil
}

// replaced says whether path no longer names the file.
func replaced(file os.FileInfo, path string) bool {
	named, err := os.Stat(path)
	return err != nil || !os.SameFile(file, named)
}

// Put makes the person durable, together with others that are waiting.
func (s *Store) Put(ctx context.Context, p birthday.Person) error {
	if !exists(p.Born) {
		return fmt.Errorf("put a person: %w", errNoDay)
	}
	err := s.writer.Do(ctx, p)
	if errors.Is(err, coalesce.ErrClosed) || errors.Is(err, coalesce.ErrUnknown) {
		err = fmt.Errorf("%w: %w", birthday.ErrUnavailable, err)
	}
	if err != nil {
		return fmt.Errorf("put a person: %w", err)
	}
	return nil
}

// putAll commits a batch, and is never called twice at once.
func (s *Store) putAll(people []birthday.Person) error {
	return s.update(func(tx *bbolt.Tx) error {
		if err := putEach(tx.Bucket(peopleBucket), people); err != nil {
			return fmt.Errorf("%w: %w", coalesce.ErrAborted, err)
		}
		return nil
	})
}

// PutAll commits people who are sorted by username, each once, in one commit of
// its own: for imports, where the caller chooses how many go into each. Pages are
// filled more than those of single puts, which leave room for what comes between.
func (s *Store) PutAll(ctx context.Context, people []birthday.Person) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put people: %w", err)
	}
	err := s.update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(peopleBucket)
		bucket.FillPercent = importFill
		return putEach(bucket, people)
	})
	if err != nil {
		return fmt.Errorf("put people: %w", err)
	}
	return nil
}

// putEach puts the people, or gives an error before the commit.
func putEach(bucket *bbolt.Bucket, people []birthday.Person) error {
	for _, p := range people {
		if !exists(p.Born) {
			return errNoDay
		}
		if err := bucket.Put([]byte(p.Username), encode(p)); err != nil {
			return err
		}
	}
	return nil
}

// exists guards the file: a date that is none would read as damage.
func exists(d birthday.Date) bool {
	_, ok := birthday.NewDate(d.Year, d.Month, d.Day)
	return ok
}

// Get reads one person.
func (s *Store) Get(_ context.Context, name birthday.Username) (birthday.Person, error) {
	p := birthday.Person{Username: name}
	err := s.view(func(bucket *bbolt.Bucket) (err error) {
		key := []byte(name)
		record := bucket.Get(key)
		if record == nil {
			return birthday.ErrNotFound
		}
		p.Born, err = decode(key, record)
		return err
	})
	if err != nil {
		return birthday.Person{}, fmt.Errorf("get a person: %w", err)
	}
	return p, nil
}

// Delete removes one person, in a commit of its own: erasure is rare, and needs
// to know whether there was someone.
func (s *Store) Delete(ctx context.Context, name birthday.Username) error {
	err := patiently(ctx, func() error {
		return s.update(func(tx *bbolt.Tx) error {
			bucket, key := tx.Bucket(peopleBucket), []byte(name)
			if bucket.Get(key) == nil {
				return birthday.ErrNotFound
			}
			return bucket.Delete(key)
		})
	})
	if err != nil {
		return fmt.Errorf("delete a person: %w", err)
	}
	return nil
}

// After reads a page of people in the order of the bytes of their usernames.
func (s *Store) After(ctx context.Context, name birthday.Username, limit int) ([]birthday.Person, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read a page of people: %w", err)
	}
	var people []birthday.Person
	err := s.view(func(bucket *bbolt.Bucket) error {
		cursor, start := bucket.Cursor(), []byte(name)
		key, record := cursor.Seek(start)
		if bytes.Equal(key, start) {
			key, record = cursor.Next()
		}
		for ; key != nil && len(people) < limit; key, record = cursor.Next() {
			born, err := decode(key, record)
			if err != nil {
				return err
			}
			people = append(people, birthday.Person{Username: birthday.Username(key), Born: born})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read a page of people: %w", err)
	}
	return people, nil
}

// Ping gives an error when a write would fail. After a write that found the
// disk full it tries a small one, so that it notices when there is space again.
func (s *Store) Ping(ctx context.Context) error {
	err := s.view(func(*bbolt.Bucket) error { return nil })
	failed, since := s.failed.Load(), s.since.Load()
	switch {
	case err != nil:
	case failed != nil:
		err = *failed
	case since != 0 && time.Since(time.Unix(0, since)) > stallTimeout:
		err = fmt.Errorf("%w: the disk has been at one commit for more than %s", birthday.ErrUnavailable, stallTimeout)
	case s.detached():
		err = errDetached
	case s.full.Load():
		err = patiently(ctx, s.probe)
	}
	if err != nil {
		return fmt.Errorf("ping store: %w", err)
	}
	return nil
}

// InUse says whether a process has the file at path open.
func InUse(path string) bool {
	file, err := os.Open(path) //nolint:gosec // the operator names the path
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	return errors.Is(syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// Size gives the length of the file in bytes.
func (s *Store) Size() (int64, error) {
	info, err := os.Stat(s.db.Path())
	if err != nil {
		return 0, fmt.Errorf("size of store: %w", err)
	}
	return info.Size(), nil
}

// Close finishes the commit at work and lets go of the file. It may be called
// again.
func (s *Store) Close() error { return s.close() }

// view runs read on the people, in a transaction of its own.
func (s *Store) view(read func(*bbolt.Bucket) error) error {
	err := s.db.View(func(tx *bbolt.Tx) error { return read(tx.Bucket(peopleBucket)) })
	return closedIsUnavailable(err)
}

func closedIsUnavailable(err error) error {
	if errors.Is(err, bberrors.ErrDatabaseNotOpen) {
		return fmt.Errorf("%w: %w", birthday.ErrUnavailable, err)
	}
	return err
}
