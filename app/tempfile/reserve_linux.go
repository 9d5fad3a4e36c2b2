package tempfile

import (
	"errors"
	"syscall"
)

// Reserve gives the empty file space for so many bytes on the disk, or returns an
// error when there is none. Some file systems cannot; then it does nothing.
func (f *File) Reserve(bytes int64) error {
	err := error(syscall.EINTR)
	for errors.Is(err, syscall.EINTR) {
		err = syscall.Fallocate(int(f.Fd()), 0, 0, bytes)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
