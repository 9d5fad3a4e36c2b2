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
	"golang.org/x/sys/unix"

	"birthday-demo/app/tempfile"
)

// createIfMissing makes an empty store at path when there is nothing. A crash at
// any moment leaves either no file there or a whole one: bbolt itself would
// write into place, and a power cut in that moment leaves a file that it cannot
// open (etcd-io/bbolt issue 567). A process that is faster wins: to replace its file
// would take that away from under its owner.
func createIfMissing(path string) error {
	_, err := os.Lstat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return openError(path, err)
	}
	file, err := tempfile.Create(filepath.Dir(path))
	if err != nil {
		return openError(path, err)
	}
	defer func() { _ = file.Discard() }() // what was committed stays
	err = file.KeepOwner(path)
	if err == nil {
		err = initialize(file.File)
	}
	if err == nil {
		err = file.CommitNew(path)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return openError(path, err)
}

// initialize makes an empty file a store.
func initialize(file *os.File) error {
	db, err := bbolt.Open(file.Name(), 0, &bbolt.Options{NoSync: true, OpenFile: instead(file)}) // Commit syncs
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
		if err := meta.Put(formatKey, formatValue); err != nil {
			return err
		}
		return meta.Put(idKey, newID())
	})
	return errors.Join(err, db.Close())
}

// instead has bbolt use a file that is open already, whatever its name leads to.
// bbolt closes a descriptor of its own.
func instead(file *os.File) func(string, int, os.FileMode) (*os.File, error) {
	return func(name string, _ int, _ os.FileMode) (*os.File, error) {
		fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open %s again: %w", name, err)
		}
		return os.NewFile(uintptr(fd), name), nil
	}
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
