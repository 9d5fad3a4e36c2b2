package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"go.etcd.io/bbolt"
	bberrors "go.etcd.io/bbolt/errors"
)

// createIfMissing makes an empty store at path when there is nothing. A crash at
// any moment leaves either no file there or a whole one: bbolt itself would
// write into place, and a power cut in that moment leaves a file that it cannot
// open (etcd-io/bbolt issue 567).
func createIfMissing(path string) error {
	_, err := os.Lstat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return openError(path, err)
	}
	folder := filepath.Dir(path)
	file, err := os.CreateTemp(folder, ".birthday-*.new") // mode 0600
	if err != nil {
		return openError(path, err)
	}
	temp := file.Name()
	defer func() { _ = os.Remove(temp) }() // gone already when it was renamed
	if err := errors.Join(file.Close(), initialize(temp)); err != nil {
		return openError(path, err)
	}
	if err := publish(temp, path); err != nil {
		return openError(path, err)
	}
	return openError(path, syncPath(folder))
}

// initialize makes the empty file at path a store, and syncs it.
func initialize(path string) error {
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(peopleBucket)
		if err != nil {
			return err
		}
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		return meta.Put(formatKey, formatValue)
	})
	return errors.Join(err, db.Close(), syncPath(path))
}

// publish gives the file its name, unless another process was faster: replacing
// that one's file would take it away from under its owner. Where there are no
// hard links a rename has to do.
func publish(temp, path string) error {
	err := os.Link(temp, path)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.ENOSYS):
		return os.Rename(temp, path)
	}
	return err
}

// syncPath makes a file, or the names in a folder, durable.
func syncPath(path string) error {
	f, err := os.Open(path) //nolint:gosec // the operator names the path
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// openError says of an error at path what was tried and what to do.
func openError(path string, err error) error {
	folder := filepath.Dir(path)
	uid := os.Getuid()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		theirs := path
		if missing(path) {
			theirs = folder
		}
		return fmt.Errorf("cannot write %s as uid %d: %w; give it to that user (chown %d %s), or name another file with --store",
			path, uid, err, uid, theirs)
	case errors.Is(err, fs.ErrNotExist) && missing(folder):
		return fmt.Errorf("%s: the folder %s does not exist; make it (mkdir -p %s), or name another file with --store: %w",
			path, folder, folder, err)
	case errors.Is(err, bberrors.ErrTimeout), errors.Is(err, syscall.EWOULDBLOCK):
		return fmt.Errorf("%s: %w (waited %s for its lock): stop that process, or name another file with --store",
			path, ErrLocked, lockTimeout)
	}
	return fmt.Errorf("%s: %w", path, err)
}
