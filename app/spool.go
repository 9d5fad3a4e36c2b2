package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"

	"birthday-demo/app/httpd"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/tempfile"
)

// spool is a copy that is read while it is being written, from a file that has no
// name any more: a slow client keeps nothing waiting but that. One goroutine reads
// and closes it, another fills it.
type spool struct {
	file   *os.File
	offset int64         // how much was read
	filled chan struct{} // closed when the filler has ended

	mu      sync.Mutex
	changed sync.Cond // of the three below
	written int64
	err     error // io.EOF when all is written, or why it is not
	closed  bool
}

var errSpoolClosed = errors.New("nobody reads the copy any more")

// spoolSnapshot copies an open store into a spool in the folder, and gives its
// length in bytes. Where the file system can reserve space, a full disk is an error
// at once, and else one of reading.
func spoolSnapshot(s *bolt.Store, folder string) (*spool, int64, error) {
	snapshot, err := s.Snapshot()
	if err != nil {
		return nil, 0, err
	}
	size := snapshot.Size()
	file, err := nameless(folder, size)
	if err != nil {
		return nil, 0, fmt.Errorf("make a copy in %s: %w", folder, errors.Join(err, snapshot.Close()))
	}
	return newSpool(file, func(w io.Writer) (err error) {
		defer func() { err = errors.Join(err, snapshot.Close()) }()
		_, err = snapshot.WriteTo(w)
		return err
	}), size, nil
}

// nameless makes a file of mode 0600 that is gone when it is closed, with space for
// so many bytes where the file system can reserve it.
func nameless(folder string, size int64) (*os.File, error) {
	file, err := tempfile.Create(folder)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Remove(file.Name()), file.Reserve(size)); err != nil {
		return nil, errors.Join(tempfile.Reason(err), file.Close())
	}
	return file.File, nil
}

// newSpool has fill write to the file in the background.
func newSpool(file *os.File, fill func(io.Writer) error) *spool {
	s := &spool{file: file, filled: make(chan struct{})}
	s.changed.L = &s.mu
	go func() {
		defer close(s.filled)
		err := survive(func() error { return fill(filler{s}) })
		if err == nil {
			err = io.EOF
		} else {
			err = fmt.Errorf("make a copy: %w", tempfile.Renamed(err, file.Name(), "the copy"))
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.err = err
		s.changed.Broadcast()
	}()
	return s
}

// survive makes an error of a panic, with its stack.
func survive(work func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic with %s\n%s", httpd.PanicText(v), debug.Stack())
		}
	}()
	return work()
}

// Read gives what was written, waits when that is nothing yet, and ends as the
// filler did.
func (s *spool) Read(b []byte) (int, error) {
	some, err := s.wait()
	if some == 0 {
		return 0, err
	}
	n, err := s.file.ReadAt(b[:min(int64(len(b)), some)], s.offset)
	s.offset += int64(n)
	return n, err
}

// wait says how much there is to read, which is nothing only at the end.
func (s *spool) wait() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.written == s.offset && s.err == nil {
		s.changed.Wait()
	}
	return s.written - s.offset, s.err
}

// Close stops the filler, and lets go of the file.
func (s *spool) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	<-s.filled
	return s.file.Close()
}

// filler is the end of a spool that is written to.
type filler struct{ s *spool }

// Write gives an error when the spool was closed.
func (f filler) Write(b []byte) (int, error) {
	n, err := f.s.file.Write(b)
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if f.s.closed {
		return n, errSpoolClosed
	}
	f.s.written += int64(n)
	f.s.changed.Broadcast()
	return n, err
}

// ReadFrom is what io.Copy looks for.
func (f filler) ReadFrom(r io.Reader) (int64, error) { return copyLargePieces(f, r) }
