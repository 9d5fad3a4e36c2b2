// Package tempfile makes files that appear under their name whole and synced, or
// not at all: a file is written under a temporary name beside its target, and
// renamed. It knows nothing of what the files hold.
//
// The folder may belong to somebody else, as when root restores the file of a
// service: whoever owns it can put a link in the place of the temporary file at any
// moment. So all is done by the descriptor that was made, never by the name again,
// and a name that leads elsewhere is refused.
package tempfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Names of temporary files. Releases before have used the other endings.
const (
	prefix  = ".birthday-"
	pattern = prefix + "*.new"
)

var endings = []string{".new", ".copy", ".check"}

// File is a new file of mode 0600 that has no name to stay yet.
type File struct {
	*os.File
	done bool // it has its name, or is gone
}

// Create makes an empty file in a folder, to be committed or discarded. Its errors
// do not tell the temporary name.
func Create(folder string) (*File, error) {
	file, err := os.CreateTemp(folder, pattern)
	if err != nil {
		return nil, Reason(err)
	}
	return &File{File: file}, nil
}

// Commit syncs the file, gives it the name path in the folder where it was made, in
// the place of what has that name, and makes the name durable. The file stays open.
func (f *File) Commit(path string) error {
	if err := f.commit(path, os.Rename); err != nil {
		return err
	}
	return f.syncName(path)
}

// CommitNew is Commit for a name that must be free: fs.ErrExist when it is not. Where
// the file system has no hard links it replaces what has the name. A name that cannot
// be made durable is taken away again: a later sync may report success and leave it
// out.
func (f *File) CommitNew(path string) error {
	err := f.commit(path, func(from, to string) error {
		err := os.Link(from, to)
		switch {
		case err == nil:
			return os.Remove(from)
		case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.ENOSYS):
			return os.Rename(from, to)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err = f.syncName(path); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func (f *File) commit(path string, rename func(from, to string) error) error {
	temp := f.Name()
	if err := f.Sync(); err != nil {
		return f.named(err, path)
	}
	if err := f.is(temp); err != nil {
		return err
	}
	if err := rename(temp, path); err != nil {
		return Reason(err)
	}
	f.done = true
	return f.is(path)
}

func (f *File) syncName(path string) error {
	if err := SyncFolder(filepath.Dir(path)); err != nil {
		return fmt.Errorf("make its name durable: %w", err)
	}
	return nil
}

// errReplaced says that a name leads to another file than the one that was made.
var errReplaced = errors.New("somebody replaced the temporary file while it was written; see who may write to its folder")

// is returns an error unless name leads to the file, and not by a link.
func (f *File) is(name string) error {
	made, err := f.Stat()
	if err != nil {
		return Reason(err)
	}
	found, err := os.Lstat(name)
	if err != nil {
		return Reason(err)
	}
	if !os.SameFile(made, found) {
		return errReplaced
	}
	return nil
}

// Discard closes the file, and removes it unless it was committed.
func (f *File) Discard() error {
	err := f.Close()
	if errors.Is(err, fs.ErrClosed) {
		err = nil
	}
	if f.done {
		return err
	}
	f.done = true
	return errors.Join(err, os.Remove(f.Name()))
}

// KeepOwner gives the file the owner of the one at path, or of its folder when there
// is none: root may work on the file of a service that is not root. Others cannot,
// and need not.
func (f *File) KeepOwner(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Lstat(path)
	if err != nil {
		info, err = os.Stat(filepath.Dir(path))
	}
	if err != nil {
		return Reason(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 && owner.Gid == 0 {
		return nil
	}
	if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil && !errors.Is(err, syscall.EPERM) { // in a container root may not be allowed to
		return fmt.Errorf("give the file to uid %d: %w", owner.Uid, Reason(err))
	}
	return nil
}

// named returns an error that calls the temporary file by the name it is to get.
func (f *File) named(err error, path string) error { return Renamed(err, f.Name(), path) }

// Renamed returns an error that calls a temporary file by another name.
func Renamed(err error, temp, name string) error {
	if err == nil {
		return nil
	}
	return renamed{err, temp, name}
}

type renamed struct {
	error
	temp, name string
}

// Error returns the text with the other name.
func (e renamed) Error() string { return strings.ReplaceAll(e.error.Error(), e.temp, e.name) }

// Unwrap returns the error.
func (e renamed) Unwrap() error { return e.error }

// Reason returns an error of the system without the file name in it, which is that
// of a temporary file or said already.
func Reason(err error) error {
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return file.Err
	}
	if link, ok := errors.AsType[*os.LinkError](err); ok {
		return link.Err
	}
	return err
}

// SyncFolder makes the names in a folder durable, where the file system can do that:
// some know no sync of a folder, and have nothing to fail.
func SyncFolder(folder string) error {
	f, err := os.Open(folder) //nolint:gosec // the operator names the path
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// Try reports why no file can be made in a folder; nil when one can. It leaves none.
func Try(folder string) error {
	file, err := Create(folder)
	if err != nil {
		return err
	}
	return file.Discard()
}

// staleAfter is how old a temporary file is that nobody writes any more.
const staleAfter = time.Hour

// Sweep removes the temporary files that crashes have left in a folder, and calls
// removed for each, with the error if it could not be removed. Files that somebody
// may still write are left.
func Sweep(folder string, now time.Time, removed func(path string, err error)) {
	entries, _ := os.ReadDir(folder) // where there is none, nothing was left
	for _, entry := range entries {
		if !isTemporary(entry.Name()) || !entry.Type().IsRegular() {
			continue
		}
		info, err := entry.Info()
		if err != nil || now.Sub(info.ModTime()) < staleAfter {
			continue
		}
		path := filepath.Join(folder, entry.Name())
		removed(path, os.Remove(path))
	}
}

// isTemporary reports whether a file of this name is a temporary one.
func isTemporary(name string) bool {
	if !strings.HasPrefix(name, prefix) {
		return false
	}
	for _, ending := range endings {
		if strings.HasSuffix(name, ending) {
			return true
		}
	}
	return false
}
