package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"birthday-demo/app/store/bolt"
)

// fileArgument gives the one argument of a command, or "-" for the standard
// input or output.
func fileArgument(args []string) string {
	if len(args) == 0 {
		return "-"
	}
	return args[0]
}

// atMostOneFile refuses more arguments than one.
func atMostOneFile(cmd *cobra.Command, args []string) error {
	if err := cobra.MaximumNArgs(1)(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}

// oneFile refuses anything but one argument.
func oneFile(cmd *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}

// requireTarget refuses to write data over what is no plain file, and over a store:
// the one of the command, or one that is in use.
func requireTarget(path, storePath string) error {
	info, err := os.Lstat(path)
	if path == "-" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	store, err := os.Stat(storePath)
	switch {
	case !info.Mode().IsRegular():
		return usageError{fmt.Errorf("%s is no plain file; name another one, or - for the standard output", path)}
	case err == nil && os.SameFile(info, store), bolt.InUse(path):
		return usageError{fmt.Errorf("%s is a store; name another file", path)}
	}
	return nil
}

// writeFile lets write fill the file at path, or the standard output for "-". A
// file appears whole, synced and with mode 0600, or not at all.
func writeFile(w world, path string, write func(io.Writer) error) (err error) {
	if path == "-" {
		return write(w.stdout)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".birthday-*.new") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, reason(err))
	}
	defer func() { _ = os.Remove(file.Name()) }() // gone already when it was renamed
	if err := errors.Join(write(file), file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, calling(file.Name(), path, err))
	}
	return rename(file.Name(), path)
}

// fileSize is in bytes.
func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// syncFile makes what a file holds durable.
func syncFile(path string) error {
	file, err := os.Open(path) //nolint:gosec // our own temporary file
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// reason gives an error of the system without the name of a temporary file, which
// tells nobody anything.
func reason(err error) error {
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return file.Err
	}
	if link, ok := errors.AsType[*os.LinkError](err); ok {
		return link.Err
	}
	return err
}

// calling gives an error that calls a temporary file by another name.
func calling(temp, name string, err error) error { return renamed{err, temp, name} }

type renamed struct {
	error
	temp, name string
}

// Error gives the text with the other name.
func (e renamed) Error() string { return strings.ReplaceAll(e.error.Error(), e.temp, e.name) }

// Unwrap gives the error.
func (e renamed) Unwrap() error { return e.error }

// rename gives a file a name that survives a power cut.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("write %s: %w", to, reason(err))
	}
	folder, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
