package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"birthday-demo/app/store/bolt"
)

// spool is a copy that is read while it is being written, from a file that has no
// name any more: a slow client keeps nothing waiting but that.
type spool struct {
	file *os.File
	full chan struct{} // closed when nobody writes any more
	read int64         // by the client

	mu      sync.Mutex
	changed sync.Cond // of what follows
	written int64
	err     error // io.EOF when all is written, or why it is not
	closed  bool
}

var errSpoolClosed = errors.New("nobody reads the copy any more")

// spoolSnapshot copies an open store into a spool in the folder, and gives its
// length in bytes. The space is reserved first: a full disk is told before the
// client has got anything.
func spoolSnapshot(s *bolt.Store, folder string) (*spool, int64, error) {
	snapshot, err := s.Snapshot()
	if err != nil {
		return nil, 0, err
	}
	size := snapshot.Size()
	file, err := nameless(folder, size)
	if err != nil {
		return nil, 0, fmt.Errorf("make a copy in %s: %w", folder, errors.Join(reason(err), snapshot.Close()))
	}
	return newSpool(file, func(w io.Writer) error {
		_, err := snapshot.WriteTo(w)
		return errors.Join(err, snapshot.Close())
	}), size, nil
}

// nameless makes a file of mode 0600 that is gone when it is closed, with space for
// so many bytes.
func nameless(folder string, size int64) (*os.File, error) {
	file, err := os.CreateTemp(folder, ".birthday-*.copy")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Remove(file.Name()), reserve(file, size)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// newSpool has write fill the file in the background.
func newSpool(file *os.File, write func(io.Writer) error) *spool {
	s := &spool{file: file, full: make(chan struct{})}
	s.changed.L = &s.mu
	go func() {
		defer close(s.full)
		err := write(s)
		if err == nil {
			err = io.EOF
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.err = err
		s.changed.Broadcast()
	}()
	return s
}

// Write is the filler's.
func (s *spool) Write(b []byte) (int, error) {
	n, err := s.file.Write(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return n, errSpoolClosed
	}
	s.written += int64(n)
	s.changed.Broadcast()
	return n, err
}

// ReadFrom is what io.Copy looks for.
func (s *spool) ReadFrom(r io.Reader) (int64, error) { return copyLargePieces(s, r) }

// Read gives what was written, waits when that is nothing yet, and ends as the
// filler did.
func (s *spool) Read(b []byte) (int, error) {
	some, err := s.wait()
	if some == 0 {
		return 0, err
	}
	n, err := s.file.ReadAt(b[:min(int64(len(b)), some)], s.read)
	s.read += int64(n)
	return n, err
}

// wait says how much there is to read, which is nothing only at the end.
func (s *spool) wait() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.written == s.read && s.err == nil {
		s.changed.Wait()
	}
	return s.written - s.read, s.err
}

// Close stops the filler, and lets go of the file.
func (s *spool) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	<-s.full
	return s.file.Close()
}
