package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"birthday-demo/app/store/bolt"
	"birthday-demo/app/tempfile"
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
	file, err := tempfile.Create(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = file.Discard() }() // what was committed stays
	if err = write(file); err == nil {
		err = file.Commit(path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, tempfile.Renamed(err, file.Name(), path))
	}
	return nil
}

// fileSize is in bytes.
func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
