package bolt

import (
	"context"
	"errors"
	"io"
	"time"
)

// targetTimeout is how long the target of a copy may take nothing.
const targetTimeout = 30 * time.Second

// pieceSize is how much of a copy is written at once, in bytes.
const pieceSize = 256 << 10

var errTarget = errors.New("the target of the copy has taken nothing for " + targetTimeout.String() + "; see to its disk")

// watched is a writer that gives up one which hangs. The write that hangs ends some
// time, or never; its bytes are not touched again.
type watched struct {
	ctx     context.Context
	w       io.Writer
	timeout time.Duration
	err     error // of the last write: bbolt passes on the text of some only
}

// Write returns an error when the write takes too long, or ctx ends.
func (w *watched) Write(b []byte) (n int, err error) {
	defer func() { w.err = err }()
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := w.w.Write(b)
		done <- result{n, err}
	}()
	timer := time.NewTimer(w.timeout)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.n, r.err
	case <-w.ctx.Done():
		return 0, w.ctx.Err()
	case <-timer.C:
		return 0, errTarget
	}
}

// ReadFrom is what io.Copy looks for: it writes in large pieces, so that each is
// worth its goroutine.
func (w *watched) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, pieceSize))
}
