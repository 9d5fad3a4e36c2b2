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
	"io"
	"os"
	"strconv"
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
	// a third of the file of a million people. A smaller one doubles, from
	// leastGrowth on.
	growth      = 1 << 20
	leastGrowth = 32 << 10

	// mappedBytes is how large a file may grow before its map is made anew: more
	// than any disk that is read through at each start.
	mappedBytes = 64 << 30

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
	idKey        = []byte("id")    // a random text that the store and its copies have in common
	probeKey     = []byte("probe") // written to see whether the disk has space again
)

// Store is a birthday.Store in one bbolt file.
type Store struct {
	db      *bbolt.DB
	path    string
	id      string
	wasCopy bool
	file    os.FileInfo // of the file that db has open
	disk    *os.File    // the same, to look at it: a new descriptor may not be had
	writer  *coalesce.Writer[change]
	onFail  func(error)
	close   func() error
	users   users

	writing sync.Mutex                // held by the one transaction that writes
	began   atomic.Pointer[time.Time] // when that began; nil is none
	jammed  atomic.Bool               // a commit panicked and holds bbolt's locks for ever
	commits atomic.Uint64             // number of the newest commit

	full    atomic.Bool // a write found no space, and since then the probe found none either
	probing atomic.Bool
	failed  atomic.Pointer[error]
	looked  atomic.Pointer[look]
}

var _ birthday.Store = (*Store)(nil)

// Options are what Open may be told.
type Options struct {
	// Failed is called at most once, when the disk failed to keep a commit. From
	// then on every write is refused: what the disk holds can only be known by
	// opening the file afresh, so the process should end.
	Failed func(error)

	// Own has the file marked as a store of its own, so that nobody takes it for a
	// copy: for whoever serves from it. That may take a commit.
	Own bool

	// Progress is called about once a second as long as Open reads, with how many
	// bytes it has read and is going to.
	Progress func(read, all int64)
}

// Open opens the file at path, or creates it with mode 0600 when there is none.
// It reads the whole file to verify it: some 0.1 s for a million people that the
// system has in its memory.
//
// Open waits up to 5 seconds for another process to let go of the file, then
// returns ErrLocked. A file that is damaged, cut off or foreign is ErrDamaged
// and is left as it is.
func Open(path string, o Options) (*Store, error) {
	if err := createIfMissing(path); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db, file, err := openVerified(path, o)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	err = writeBackMeta(path)
	if err == nil {
		err = syncName(db, path)
	}
	if err != nil {
		_ = db.Close() // the error that counts is there
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{db: db, path: path, file: file, onFail: o.Failed}
	if s.onFail == nil {
		s.onFail = func(error) {}
	}
	s.users.hold()
	s.writer = coalesce.New(maxBatch, s.commit)
	s.close = sync.OnceValue(s.shut)
	if s.disk, err = os.Open(path); err == nil { //nolint:gosec // the operator names the path
		err = s.identify(o.Own)
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

// openVerified verifies the file at path, then opens and locks it.
func openVerified(path string, o Options) (db *bbolt.DB, file os.FileInfo, err error) {
	_, err = verifyLocked(path, func(file io.ReaderAt, size int64) (int, error) { return verifyWarm(file, size, o.Progress) })
	if err != nil {
		return nil, nil, err
	}
	options := &bbolt.Options{
		Timeout:         lockTimeout,
		FreelistType:    bbolt.FreelistMapType,
		NoStatistics:    true,
		InitialMmapSize: mapSize(),
		OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
			if f, err = os.OpenFile(name, flag, mode); err == nil { //nolint:gosec // the operator names the path
				file, err = f.Stat()
			}
			return f, err
		},
	}
	db, err = bbolt.Open(path, 0o600, options)
	if errors.Is(err, syscall.ENOMEM) { // there is no room for the large map after all
		options.InitialMmapSize = 0
		db, err = bbolt.Open(path, 0o600, options)
	}
	if err != nil {
		return nil, nil, openError(path, err)
	}
	if replaced(file, path) { // by a restore, say, while we waited for the lock
		_ = db.Close() // nothing was written
		return openVerified(path, o)
	}
	return db, file, nil
}

// mapSize is how many bytes of addresses the memory map takes at once. While a map
// is made anew, for a file that has outgrown it, bbolt waits for every reader to
// end, and every new reader waits for that (etcd-io/bbolt issue 850): one slow copy
// would stop all. Addresses cost nothing, but where they are limited (ulimit -v)
// only a part is taken.
func mapSize() int {
	if strconv.IntSize < 64 {
		return 0
	}
	size := uint64(mappedBytes)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_AS, &limit); err == nil {
		size = min(size, limit.Cur/4)
	}
	return int(size)
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
	if err := s.do(ctx, change{person: p}); err != nil {
		return fmt.Errorf("put a person: %w", err)
	}
	return nil
}

// Delete removes one person, together with others that are waiting.
func (s *Store) Delete(ctx context.Context, name birthday.Username) error {
	c := change{person: birthday.Person{Username: name}, deleted: new(bool)}
	err := s.do(ctx, c)
	if err == nil && !*c.deleted {
		err = birthday.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("delete a person: %w", err)
	}
	return nil
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

// Ping returns an error when a write would fail. After a write that found the
// disk full it tries a small one, so that it notices when there is space again. Where
// the disk hangs it may take as long as that, in spite of ctx.
func (s *Store) Ping(ctx context.Context) error {
	err := s.refusal()
	began := s.began.Load()
	switch {
	case err != nil:
	case began != nil && time.Since(*began) > stallTimeout:
		err = fmt.Errorf("%w: the disk has been at one commit for more than %s", birthday.ErrUnavailable, stallTimeout)
	case s.full.Load():
		err = s.probe(ctx)
	default:
		err = s.view(func(*bbolt.Bucket) error { return nil })
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
	info, err := os.Stat(s.path)
	if err != nil {
		return 0, fmt.Errorf("size of store: %w", err)
	}
	return info.Size(), nil
}

// Close finishes the commit at work and lets go of the file, at once or when the last
// snapshot is closed. It may be called again.
func (s *Store) Close() error { return s.close() }

func (s *Store) shut() error {
	s.users.close()
	s.writer.Close()
	s.writing.Lock() // what commits without the writer ends first
	defer s.writing.Unlock()
	return s.release()
}

// release ends one use of the file, and closes it after the last.
func (s *Store) release() error {
	if !s.users.release() || s.jammed.Load() {
		return nil
	}
	return errors.Join(s.db.Close(), s.disk.Close())
}

var errClosed = fmt.Errorf("%w: the store is closed", birthday.ErrUnavailable)

// view runs read on the people, in a transaction of its own.
func (s *Store) view(read func(*bbolt.Bucket) error) error {
	if s.users.closed.Load() {
		return errClosed
	}
	err := s.db.View(func(tx *bbolt.Tx) error { return read(tx.Bucket(peopleBucket)) })
	return closedIsUnavailable(err)
}

func closedIsUnavailable(err error) error {
	if errors.Is(err, bberrors.ErrDatabaseNotOpen) {
		return fmt.Errorf("%w: %w", birthday.ErrUnavailable, err)
	}
	return err
}
