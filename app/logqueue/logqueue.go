// Package logqueue keeps a program from waiting for the reader of its log. Lines
// are put into a bounded queue, and one goroutine writes them in their order. When
// the reader stands still, the queue fills up and further lines are dropped and
// counted; when it moves again, the log itself says how many. Urgent lines have room
// of their own: they are kept when the others are dropped.
//
// It knows nothing of what the lines say.
package logqueue

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"time"
)

const (
	// room is how many bytes may wait, and urgentRoom how many more when they are
	// urgent.
	room       = 1 << 20
	urgentRoom = 256 << 10
	// writeSize is PIPE_BUF of Linux. POSIX keeps a write of up to so many bytes to a
	// pipe together, whoever else writes to it.
	writeSize = 4096
	// tellEvery keeps a reader that is merely slow from reading about nothing else.
	tellEvery = time.Second
	// keptSize is how large a buffer may be to be used again.
	keptSize = 64 << 10
)

// Queue is a writer of lines that never blocks and never fails. New makes one.
type Queue struct {
	out    io.Writer
	format func(io.Writer) slog.Handler
	done   chan struct{} // closed when nothing more is written

	mu      sync.Mutex
	changed sync.Cond // waiting or closed
	waiting []byte    // lines, the oldest first
	taken   int       // bytes that no longer wait and are not yet written
	dropped uint64    // lines
	closed  bool
}

// New returns a queue of lines for out. format makes the handlers of its log.
func New(out io.Writer, format func(io.Writer) slog.Handler) *Queue {
	q := &Queue{out: out, format: format, done: make(chan struct{})}
	q.changed.L = &q.mu
	go q.run()
	return q
}

// Write queues one or more lines.
func (q *Queue) Write(lines []byte) (int, error) {
	q.add(lines, room)
	return len(lines), nil
}

// urgent is a Queue for lines that are urgent.
type urgent struct{ *Queue }

// Write queues one or more lines.
func (u urgent) Write(lines []byte) (int, error) {
	u.add(lines, room+urgentRoom)
	return len(lines), nil
}

func (q *Queue) add(lines []byte, limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || len(q.waiting)+q.taken+len(lines) > limit {
		q.dropped += count(lines)
		return
	}
	q.waiting = append(q.waiting, lines...)
	q.changed.Signal()
}

// Handler returns a handler that queues its lines. Errors are urgent.
func (q *Queue) Handler() slog.Handler { return handler{q.format(q), q.format(urgent{q})} }

// Dropped returns how many lines were dropped so far.
func (q *Queue) Dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// Close drops all lines that come from now on. It returns when those in the queue
// are written, or when ctx ends.
func (q *Queue) Close(ctx context.Context) {
	q.mu.Lock()
	q.closed = true
	q.changed.Signal()
	q.mu.Unlock()
	select {
	case <-q.done:
	case <-ctx.Done():
	}
}

// run writes what is queued until the queue is closed and empty.
func (q *Queue) run() {
	defer close(q.done)
	w := writer{out: q.out}
	w.notices = q.format(&w.notice)
	for batch := q.take(nil); len(batch) > 0; batch = q.take(batch) {
		for rest := batch; len(rest) > 0; {
			next := rest[:cut(rest)]
			rest = rest[len(next):]
			failed := w.write(next)
			if dropped, empty := q.wrote(len(next), failed); failed == 0 {
				w.tell(dropped, empty)
			}
		}
	}
}

// take waits for lines and returns all that wait. From then on lines wait in the
// buffer of those that were taken before.
func (q *Queue) take(before []byte) []byte {
	if cap(before) > keptSize {
		before = nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 && !q.closed {
		q.changed.Wait()
		q.mu.Unlock()
		runtime.Gosched() // whoever is about to add a line goes first: one write takes all
		q.mu.Lock()
	}
	batch := q.waiting
	q.waiting, q.taken = before[:0], len(batch)
	return batch
}

// wrote makes room for what was written, and counts the lines of it that could not
// be. It returns how many lines were dropped so far, and whether none wait.
func (q *Queue) wrote(size int, failed uint64) (dropped uint64, empty bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken -= size
	q.dropped += failed
	return q.dropped, q.taken+len(q.waiting) == 0
}

// cut returns how much of the lines to write at once.
func cut(lines []byte) int {
	if len(lines) <= writeSize {
		return len(lines)
	}
	if end := bytes.LastIndexByte(lines[:writeSize], '\n'); end >= 0 {
		return end + 1
	}
	if end := bytes.IndexByte(lines, '\n'); end >= 0 { // one long line
		return end + 1
	}
	return len(lines)
}

func count(lines []byte) uint64 { return uint64(bytes.Count(lines, []byte{'\n'})) } //nolint:gosec // it is never negative

// writer is what the goroutine of a queue knows alone.
type writer struct {
	out     io.Writer
	torn    bool // the last write ended within a line
	notices slog.Handler
	notice  bytes.Buffer
	told    uint64 // of the lines that were dropped
	toldAt  time.Time
}

// write writes lines, and returns how many of them failed. What failed may have had
// a reason that passes: the next lines are tried again.
func (w *writer) write(lines []byte) (failed uint64) {
	if w.torn {
		if _, err := w.out.Write([]byte{'\n'}); err != nil {
			return count(lines)
		}
		w.torn = false
	}
	n, err := w.out.Write(lines)
	if err == nil {
		return 0
	}
	w.torn = n > 0 && lines[n-1] != '\n'
	return count(lines[n:])
}

// tell writes a line about lines that were dropped and not yet told of. While others
// wait it does so once in a while only.
func (w *writer) tell(dropped uint64, empty bool) {
	if dropped == w.told || !empty && time.Since(w.toldAt) < tellEvery {
		return
	}
	line := slog.NewRecord(time.Now(), slog.LevelWarn, "lines of the log were dropped: its reader did not keep up, or a write failed", 0)
	line.AddAttrs(slog.Uint64("dropped", dropped-w.told), slog.Uint64("total", dropped))
	w.notice.Reset()
	if w.notices.Enabled(context.Background(), line.Level) {
		_ = w.notices.Handle(context.Background(), line) // a buffer takes all
	}
	if w.notice.Len() == 0 || w.write(w.notice.Bytes()) == 0 {
		w.told, w.toldAt = dropped, time.Now()
	}
}
