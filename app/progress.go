package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows a person on a terminal how far a long command is, and nobody
// else. The nil progress shows nothing.
type progress struct{ bar *progressbar.ProgressBar }

// newProgress starts a bar over size bytes; -1 is not known.
func newProgress(w world, quiet bool, what string, size int64) *progress {
	if quiet || !isTerminal(w.stderr) {
		return nil
	}
	return &progress{progressbar.NewOptions64(size,
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWriter(w.stderr),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
	)}
}

// reader counts what is read.
func (p *progress) reader(r io.Reader) io.Reader {
	if p == nil {
		return r
	}
	return io.TeeReader(r, p.bar)
}

// writer counts what is written.
func (p *progress) writer(w io.Writer) io.Writer {
	if p == nil {
		return w
	}
	return io.MultiWriter(w, p.bar)
}

// done removes the bar.
func (p *progress) done() {
	if p != nil {
		_ = p.bar.Finish() // it is only for show
	}
}
