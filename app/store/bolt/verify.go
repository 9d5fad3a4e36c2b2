package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"

	"go.etcd.io/bbolt"
	bberrors "go.etcd.io/bbolt/errors"
)

// Verify reads the whole file at path, under a shared lock, and gives ErrDamaged
// unless every page of it is in order and every record's checksum holds. It
// changes nothing.
//
// bbolt's own check is not enough for a file that may be damaged. It follows
// offsets in the memory map, where a wrong one ends the process; it falls back
// to the older of its two meta pages when the newer one is damaged, which
// silently undoes the last commit; and it knows no records. See pages.go.
func Verify(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return openError(path, err)
	case !info.Mode().IsRegular():
		return damaged(path, errors.New("it is no regular file"))
	case info.Size() == 0:
		return damaged(path, errors.New("it is empty"))
	}
	// Opening it read-only takes the lock and looks at the meta pages only.
	lock, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil {
		return readError(path, err)
	}
	defer func() { _ = lock.Close() }() // nothing was written
	f, err := os.Open(path)             //nolint:gosec // the operator names the path
	if err != nil {
		return openError(path, err)
	}
	defer func() { _ = f.Close() }()
	return readError(path, verifyFile(f, info.Size()))
}

// readError tells what the system says about a file from what the file says
// about itself.
func readError(path string, err error) error {
	var system syscall.Errno
	if err == nil || errors.As(err, &system) || errors.Is(err, bberrors.ErrTimeout) {
		return openError(path, err)
	}
	return damaged(path, err)
}

func damaged(path string, err error) error {
	return fmt.Errorf("%s: %w: %w; restore a backup, or name another file with --store", path, ErrDamaged, err)
}

var errForeign = errors.New("it is not a store of this service")

// verifyFile checks the pages of an open file, and what the buckets hold.
func verifyFile(f *os.File, size int64) error {
	var format []byte
	buckets := 0
	verifyRecord := func(key, value []byte) error {
		_, err := decode(key, value)
		return err
	}
	readFormat := func(key, value []byte) error {
		if bytes.Equal(key, formatKey) {
			format = bytes.Clone(value)
		}
		return nil
	}
	err := walkFile(f, size, func(bucket []byte) (func(key, value []byte) error, error) {
		buckets++
		switch {
		case bytes.Equal(bucket, peopleBucket):
			return verifyRecord, nil
		case bytes.Equal(bucket, metaBucket):
			return readFormat, nil
		}
		return nil, errForeign
	})
	switch {
	case err != nil:
		return err
	case buckets != 2 || !bytes.HasPrefix(format, formatName):
		return errForeign
	case !bytes.Equal(format, formatValue):
		return fmt.Errorf("it has the format %q, and this version of the service reads %q", format, formatValue)
	}
	return nil
}
