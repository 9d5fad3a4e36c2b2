package main

import (
	"errors"
	"os"
	"syscall"
)

// reserve gives an empty file space for so many bytes on the disk, or an error when
// there is none. Some file systems cannot; then it does nothing.
func reserve(file *os.File, bytes int64) error {
	err := error(syscall.EINTR)
	for errors.Is(err, syscall.EINTR) {
		err = syscall.Fallocate(int(file.Fd()), 0, 0, bytes)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
