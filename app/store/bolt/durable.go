package bolt

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"birthday-demo/app/tempfile"
)

// This file makes durable what the process that had the file before may have left
// in the page cache only. The caller holds the file's lock, and has committed nothing.

// writeBackMeta makes the newest commit durable. A process that ended between the
// write of a meta page and the end of its sync has left a commit that is read from
// the cache, and that the disk may not hold. The next commit would reuse pages that
// the meta page on the disk still needs: after a power cut in that moment the file
// would be damaged.
func writeBackMeta(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // the operator names the path
	if err != nil {
		return openError(path, err)
	}
	defer func() { _ = file.Close() }() // it was synced
	info, err := file.Stat()
	if err == nil {
		err = rewriteMeta(file, info.Size())
	}
	if err != nil {
		err = fmt.Errorf("write the newest meta page again: %w", err)
	}
	return openError(path, err)
}

// rewriteMeta writes the newest meta page of a file to its place and syncs it. A
// sync alone is not enough: when one fails the kernel takes the page for written,
// and later ones pass over it.
func rewriteMeta(file interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}, size int64,
) error {
	m, err := readMeta(file, size)
	if err != nil {
		return err
	}
	page := make([]byte, m.pageSize)
	if _, err := file.ReadAt(page, m.offset); err != nil {
		return err
	}
	if _, err := file.WriteAt(page, m.offset); err != nil {
		return err
	}
	return file.Sync()
}

// syncName makes the file's name durable. After a sync that failed, a later one can
// report success and leave the name out: it has to be given again. So a store without
// people loses its name, and the next start makes a new one. The name of a store with
// people was synced before the first of them came.
func syncName(db *bbolt.DB, path string) error {
	path, err := resolve(path)
	if err != nil {
		return err
	}
	err = tempfile.SyncFolder(filepath.Dir(path))
	if err == nil {
		return nil
	}
	nobody := false
	_ = db.View(func(tx *bbolt.Tx) error { // an error leaves the name alone
		key, _ := tx.Bucket(peopleBucket).Cursor().First()
		nobody = key == nil
		return nil
	})
	switch {
	case nobody:
		err = errors.Join(err, os.Remove(path))
	case errors.Is(err, fs.ErrPermission): // the folder may not be read, so no sync was tried
		return nil
	}
	return openError(path, fmt.Errorf("make its name durable: %w", err))
}
