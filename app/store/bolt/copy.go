package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"birthday-demo/app/tempfile"
)

// ErrNotEmpty says that a restore would replace people.
var ErrNotEmpty = errors.New("the store holds people already")

// Snapshot is the whole file as it was at one moment, while people are put and
// got. As long as it is open, the file cannot reuse pages, and grows with each write.
type Snapshot struct {
	store *Store
	tx    *bbolt.Tx
}

// Snapshot opens a snapshot, which is to be closed soon. The store may be closed
// before it.
func (s *Store) Snapshot() (*Snapshot, error) {
	tx, err := s.begin()
	if err != nil {
		return nil, fmt.Errorf("back up %s: %w", s.path, err)
	}
	return &Snapshot{s, tx}, nil
}

func (s *Store) begin() (*bbolt.Tx, error) {
	if !s.users.hold() {
		return nil, errClosed
	}
	tx, err := s.db.Begin(false)
	if err != nil {
		return nil, errors.Join(closedIsUnavailable(err), s.release())
	}
	return tx, nil
}

// Size is the length of the copy in bytes.
func (n *Snapshot) Size() int64 { return n.tx.Size() }

// WriteTo writes a consistent copy of the file to w, which should be a file, not a
// client, and returns the length in bytes.
//
// The copy may carry bytes of people that were deleted, in pages that are free;
// Pack the copy to leave them behind.
func (n *Snapshot) WriteTo(w io.Writer) (int64, error) {
	written, err := n.tx.WriteTo(w)
	if err != nil {
		return written, fmt.Errorf("back up %s: %w", n.store.path, err)
	}
	return written, nil
}

// Close lets go of the pages.
func (n *Snapshot) Close() error { return errors.Join(n.tx.Rollback(), n.store.release()) }

// Backup writes a snapshot to w, and returns its length in bytes. It ends with ctx,
// and when w takes nothing for half a minute: a disk that hangs must not keep a
// snapshot open for ever. A write to w that hangs is left to itself then.
func (s *Store) Backup(ctx context.Context, w io.Writer) (int64, error) {
	snapshot, err := s.Snapshot()
	if err != nil {
		return 0, err
	}
	target := &watched{ctx: ctx, w: w, timeout: targetTimeout}
	written, err := snapshot.WriteTo(target)
	if target.err != nil {
		err = fmt.Errorf("back up %s: %w", s.path, target.err)
	}
	return written, errors.Join(err, snapshot.Close())
}

// Copy writes a consistent copy of the file at path to w, verified first. The
// file must not be in use: that is ErrLocked.
func Copy(path string, w io.Writer) error {
	db, _, err := openVerified(path, Options{})
	if err != nil {
		return fmt.Errorf("copy store: %w", err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("copy store %s: %w", path, err)
	}
	return nil
}

// Compact writes what the file at path holds to a new file, packed, and puts it
// in the place of the old one: nothing remains of people who were deleted. The
// file must not be in use. A crash, or an end of ctx, leaves the old file or the
// new one.
func Compact(ctx context.Context, path string) (report Report, err error) {
	path, err = resolve(path)
	if err != nil {
		return report, fmt.Errorf("compact store: %w", err)
	}
	source, _, err := openVerified(path, Options{}) // which locks it for the whole time
	if err != nil {
		return report, fmt.Errorf("compact store: %w", err)
	}
	report, err = replace(ctx, path, func(file *os.File) error { return pack(ctx, file, source) })
	if err = errors.Join(err, source.Close()); err != nil {
		return report, fmt.Errorf("compact store: %w", err)
	}
	return report, nil
}

// Pack writes what the copy in from holds to the empty file to, without what is left
// of people who were deleted. It ends with ctx.
func Pack(ctx context.Context, to, from *os.File) error {
	if _, err := VerifyFile(from); err != nil {
		return fmt.Errorf("pack a copy: %w", err)
	}
	source, err := bbolt.Open(from.Name(), 0, &bbolt.Options{ReadOnly: true, OpenFile: instead(from)})
	if err != nil {
		return fmt.Errorf("pack a copy: %w", err)
	}
	if err := errors.Join(pack(ctx, to, source), source.Close()); err != nil {
		return fmt.Errorf("pack a copy: %w", err)
	}
	return nil
}

// pack writes what source holds to an empty file. bbolt's own Compact cannot be
// stopped.
func pack(ctx context.Context, to *os.File, source *bbolt.DB) error {
	target, err := bbolt.Open(to.Name(), 0, &bbolt.Options{NoSync: true, OpenFile: instead(to)}) // whoever names the file syncs it
	if err != nil {
		return err
	}
	target.AllocSize = growth
	err = source.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, bucket *bbolt.Bucket) error {
			return packBucket(ctx, target, name, bucket)
		})
	})
	return errors.Join(err, target.Close())
}

// packBucket copies the pairs of a bucket, in their order, some in each commit.
func packBucket(ctx context.Context, to *bbolt.DB, name []byte, from *bbolt.Bucket) error {
	const pairsPerCommit = 100_000
	cursor := from.Cursor()
	key, value := cursor.First()
	for {
		err := to.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists(name)
			if err != nil {
				return err
			}
			bucket.FillPercent = 1
			for n := 0; key != nil && n < pairsPerCommit; n++ {
				if err := errors.Join(ctx.Err(), bucket.Put(key, value)); err != nil {
					return err
				}
				key, value = cursor.Next()
			}
			return ctx.Err()
		})
		if err != nil || key == nil {
			return err
		}
	}
}

// Restore puts a copy of the file backup in the place of the store at path. A
// damaged copy is refused with ErrDamaged; a store that is in use with ErrLocked;
// one that holds people, or cannot be read, with ErrNotEmpty unless force is
// set. A crash, or an end of ctx, leaves the old store or the new one.
func Restore(ctx context.Context, path, backup string, force bool) (Report, error) {
	report, err := Verify(backup)
	if err != nil {
		return report, fmt.Errorf("restore: %w", err)
	}
	path, err = resolve(path)
	if err != nil {
		return report, fmt.Errorf("restore: %w", err)
	}
	unlock, err := lock(path)
	if err != nil {
		return report, fmt.Errorf("restore: %w", err)
	}
	defer unlock()
	if !force {
		if err := requireEmpty(path); err != nil {
			return report, fmt.Errorf("restore: %w", err)
		}
	}
	report, err = replace(ctx, path, func(file *os.File) error {
		if err := copyFile(ctx, file, backup); err != nil {
			return err
		}
		return giveID(file, path)
	})
	if err != nil {
		return report, fmt.Errorf("restore: %w", err)
	}
	return report, nil
}

// giveID gives a copy an id of its own, unless it goes back to the store that it is
// of. Two services that began with one copy are two stores: neither may remove the
// other's copies.
func giveID(file *os.File, path string) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	ours, err := identify(file, info.Size())
	if err != nil {
		return err
	}
	if theirs, err := Identify(path); err == nil && theirs.ID == ours.ID {
		return nil
	}
	db, err := bbolt.Open(file.Name(), 0, &bbolt.Options{NoSync: true, OpenFile: instead(file)}) // replace syncs
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(idKey, newID()) })
	return errors.Join(err, db.Close())
}

// requireEmpty gives ErrNotEmpty unless there is no store at path, or one
// without people.
func requireEmpty(path string) error {
	report, err := inspect(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && report.People == 0:
		return nil
	case errors.Is(err, ErrDamaged):
		return fmt.Errorf("%w; use --force to replace it", err)
	case err != nil:
		return err
	}
	return fmt.Errorf("%s: %w (%d); use --force to replace them", path, ErrNotEmpty, report.People)
}

func copyFile(ctx context.Context, target io.Writer, from string) error {
	source, err := os.Open(from) //nolint:gosec // the operator names the path
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	const piece = 1 << 20
	for err == nil && ctx.Err() == nil {
		_, err = io.CopyN(target, source, piece)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, ctx.Err())
}

// replace makes a new file with write, verifies and syncs it, and gives it the
// name path, unless ctx has ended. The caller has locked the file that is there
// already; who waits for that lock finds the new file (see Open).
func replace(ctx context.Context, path string, write func(*os.File) error) (report Report, err error) {
	file, err := tempfile.Create(filepath.Dir(path))
	if err != nil {
		return report, openError(path, err)
	}
	defer func() { _ = file.Discard() }() // what was committed stays
	if err := errors.Join(file.KeepOwner(path), ctx.Err()); err != nil {
		return report, openError(path, err)
	}
	if err := write(file.File); err != nil {
		return report, openError(path, tempfile.Renamed(err, file.Name(), path))
	}
	if report, err = VerifyFile(file.File); err != nil {
		return report, tempfile.Renamed(err, file.Name(), path)
	}
	if err := ctx.Err(); err != nil {
		return report, openError(path, err)
	}
	return report, openError(path, file.Commit(path))
}

// resolve returns the file that a link names: that one is to be replaced, not the
// link. Root does not follow a link that somebody else made to a file that is not
// theirs, as Linux does not in folders that are everybody's (protected_symlinks in
// proc_sys_fs(5)): the service's user could have root replace any file by it.
func resolve(path string) (string, error) {
	target, err := filepath.EvalSymlinks(path)
	link, linkErr := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) && linkErr != nil {
		return path, nil // there is nothing, and no link either
	}
	if err != nil {
		return "", fmt.Errorf("follow %s: %w", path, err)
	}
	file, err := os.Stat(target)
	if err != nil {
		return "", fmt.Errorf("follow %s: %w", path, err)
	}
	if by := owner(link); os.Geteuid() == 0 && by != 0 && by != owner(file) {
		return "", fmt.Errorf("%s is a link that user %d made to a file of user %d: name the file itself, if it is meant", path, by, owner(file))
	}
	return target, nil
}

// owner is the uid of a file.
func owner(info os.FileInfo) uint32 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Uid
	}
	return 0
}

// lock keeps everybody from opening the file at path, until unlock. A file that
// does not exist needs no lock.
func lock(path string) (unlock func(), err error) {
	file, err := os.Open(path) //nolint:gosec // the operator names the path
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err == nil {
		err = waitForLock(file, syscall.LOCK_EX)
	}
	if err != nil {
		_ = file.Close() // nil when it was not opened
		return nil, openError(path, err)
	}
	return func() { _ = file.Close() }, nil
}

// waitForLock takes the same lock as bbolt, in its way: it is gone when the file
// is closed.
func waitForLock(file *os.File, how int) error {
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Since(begin) > lockTimeout {
			return err
		}
	}
}
