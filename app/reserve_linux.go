package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve gives an empty file space on the disk, where the file system can do so.
func reserve(file *os.File, bytes int64) error {
	err := unix.Fallocate(int(file.Fd()), 0, 0, bytes)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
