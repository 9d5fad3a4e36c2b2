package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// Report says what a verified file holds.
type Report struct {
	People int   `json:"people"`
	Bytes  int64 `json:"bytes"`
}

// Verify reads the whole file at path, under a shared lock, and gives ErrDamaged
// unless every page of it is in order and every record's checksum holds. It
// changes nothing.
//
// bbolt's own check is not enough for a file that may be damaged. It follows
// offsets in the memory map, where a wrong one ends the process; it falls back
// to the older of its two meta pages when the newer one is damaged, which
// silently undoes the last commit; and it knows no records. See pages.go.
func Verify(path string) (Report, error) {
	return verifyLocked(path, verifyFile)
}

// reading verifies what it reads of a file, and counts the people.
type reading func(file io.ReaderAt, size int64) (people int, err error)

func verifyLocked(path string, read reading) (Report, error) {
	file, err := os.Open(path) //nolint:gosec // the operator names the path
	if err != nil {
		return Report{}, openError(path, err)
	}
	defer func() { _ = file.Close() }() // which lets go of the lock
	if err := waitForLock(file, syscall.LOCK_SH); err != nil {
		return Report{}, openError(path, err)
	}
	return verifyOpen(path, file, read)
}

// VerifyFile is Verify for a file that is open, and that nobody else knows.
func VerifyFile(file *os.File) (Report, error) {
	return verifyOpen(file.Name(), file, verifyFile)
}

// inspect is Verify for a file that is locked already.
func inspect(path string) (Report, error) {
	file, err := os.Open(path) //nolint:gosec // the operator names the path
	if err != nil {
		return Report{}, openError(path, err)
	}
	defer func() { _ = file.Close() }()
	return verifyOpen(path, file, verifyFile)
}

// verifyOpen verifies a file by one of the two ways of reading it: verifyWarm, or
// verifyFile where the file is in the page cache, since it was just written, or nobody
// waits for it.
func verifyOpen(path string, file *os.File, read reading) (Report, error) {
	info, err := file.Stat()
	switch {
	case err != nil:
		return Report{}, openError(path, err)
	case !info.Mode().IsRegular():
		return Report{}, damaged(path, errors.New("it is no regular file"))
	case info.Size() == 0:
		return Report{}, damaged(path, errors.New("it is empty"))
	}
	people, err := read(file, info.Size())
	return Report{people, info.Size()}, readError(path, err)
}

// readError tells what the system says about a file from what the file says
// about itself.
func readError(path string, err error) error {
	var system syscall.Errno
	if err == nil || errors.As(err, &system) {
		return openError(path, err)
	}
	return damaged(path, err)
}

func damaged(path string, err error) error {
	return fmt.Errorf("%s: %w: %w; restore a backup, or name another file with --store", path, ErrDamaged, err)
}

var errForeign = errors.New("it is not a store of this service")

// verifyFile checks the pages of an open file, and what the buckets hold. It
// counts the people.
func verifyFile(file io.ReaderAt, size int64) (people int, err error) {
	var format []byte
	buckets, formats := 0, 0
	verifyRecord := func(key, value []byte) error {
		_, err := decode(key, value)
		return err
	}
	readFormat := func(key, value []byte) error { // once at most: keys ascend
		if bytes.Equal(key, formatKey) {
			format = bytes.Clone(value)
		}
		return nil
	}
	err = walkFile(file, size, func(bucket []byte) (func(key, value []byte) error, *int, error) {
		buckets++
		switch {
		case bytes.Equal(bucket, peopleBucket):
			return verifyRecord, &people, nil
		case bytes.Equal(bucket, metaBucket):
			return readFormat, &formats, nil
		}
		return nil, nil, errForeign
	})
	switch {
	case err != nil:
		return 0, err
	case buckets != 2 || !bytes.HasPrefix(format, formatName):
		return 0, errForeign
	case !bytes.Equal(format, formatValue):
		return 0, fmt.Errorf("it has the format %q, and this version of the service reads %q", format, formatValue)
	}
	return people, nil
}
