// Package secretfile reads small files that hold a secret: tokens, a password, a
// setting. An operator names such a file, so that it may be anything: reading it
// neither waits for the writer of a pipe nor goes on without end. The package does
// not know what the secret is for, and no error holds it.
package secretfile

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
)

const maxSize = 1 << 20

// Read returns what is in the file at path: a regular file of at most 1 MiB, or a
// link to one.
func Read(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator names the path
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is not a regular file; name one, or a link to one", path)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSize {
		return nil, fmt.Errorf("read %s: it has more than 1 MiB; name the file that holds only the secret", path)
	}
	return text, nil
}

// Reader reads one file again and again. When its disk does not answer, callers give
// up with their contexts, and a single read stays behind, however often it is tried.
type Reader struct {
	path    string
	read    func(path string) ([]byte, error)
	reading chan struct{} // holds one while the file is read
}

// NewReader makes a reader of the file at path.
func NewReader(path string) *Reader {
	return &Reader{path: path, read: Read, reading: make(chan struct{}, 1)}
}

// Read is like the function Read, but gives up when ctx ends.
func (r *Reader) Read(ctx context.Context) ([]byte, error) {
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	select {
	case r.reading <- struct{}{}:
		go func() {
			defer func() { <-r.reading }()
			text, err := r.read(r.path)
			done <- result{text, err}
		}()
	case <-ctx.Done():
	}
	select {
	case got := <-done:
		return got.text, got.err
	case <-ctx.Done():
		return nil, fmt.Errorf("read %s: its disk does not answer: %w", r.path, ctx.Err())
	}
}
