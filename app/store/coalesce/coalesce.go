// Package coalesce lets many writers share one commit. Every store has the same
// need: a durable commit costs a sync of the disk however few items it carries,
// so what waits while one commit runs should go into the next one together.
// The package knows nothing of people, files or databases.
//
// One goroutine commits. It takes whatever is waiting, up to a limit, and sleeps for
// no more: a lone writer is not slowed down, and the busier the writers are the
// larger their batches grow by themselves.
//
// Items are handed over on an unbuffered channel, so at every moment an item is
// either still its caller's or the committer's: closing and cancelling need no
// lock and lose nothing.
package coalesce

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
)

var (
	// ErrClosed says that the writer was closed before it took the item.
	ErrClosed = errors.New("writer is closed")

	// ErrUnknown says that the caller gave up while its item was being
	// committed: it may or may not be kept.
	ErrUnknown = errors.New("gave up waiting for a commit, its outcome is unknown")

	// ErrAborted marks an error of a commit that kept nothing and where one
	// item may be at fault; the items are then tried one by one.
	ErrAborted = errors.New("commit aborted")
)

const (
	// maxYields is how often a commit lets others run first: on a busy machine that
	// may be everybody, each time.
	maxYields = 4

	// many callers are worth a commit of their own, whoever else comes.
	many = 64
)

// Writer commits items in batches. Build one with New.
type Writer[T any] struct {
	commit func([]T) error
	limit  int
	calls  chan call[T]
	quit   chan struct{}
	done   chan struct{}
	close  func()
	last   int // how many calls the last batch had; the loop's
}

// call is one item on its way, with its caller's patience and return address.
type call[T any] struct {
	ctx    context.Context
	item   T
	result chan error // has room for one, so that answering never waits
}

// New starts a writer whose batches hold up to limit items. The function commit
// makes all items of a batch durable, in their order, or returns an error: one
// that is ErrAborted when nothing was kept and the fault may be with an item.
// It is never called twice at once, and a panic in it counts as ErrAborted.
func New[T any](limit int, commit func([]T) error) *Writer[T] {
	w := &Writer[T]{
		commit: commit,
		limit:  limit,
		calls:  make(chan call[T]),
		quit:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	w.close = sync.OnceFunc(func() { close(w.quit) })
	go w.loop()
	return w
}

// Do hands the item over and waits until it is durable. It returns ErrClosed or
// the error of ctx when the item surely was not written, ErrUnknown when ctx
// ended while the item was being committed, or the error of the commit.
func (w *Writer[T]) Do(ctx context.Context, item T) error {
	c := call[T]{ctx, item, make(chan error, 1)}
	select {
	case w.calls <- c:
	case <-w.quit:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-c.result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
}

// Close lets the batch at work finish, refuses everything else, and returns
// when no more calls of commit will come. It may be called again.
func (w *Writer[T]) Close() {
	w.close()
	<-w.done
}

func (w *Writer[T]) loop() {
	defer close(w.done)
	for {
		select {
		case <-w.quit:
			return
		case c := <-w.calls:
			calls := w.fill(c)
			w.last = len(calls)
			w.flush(calls)
		}
	}
}

// fill adds to the first call those that are waiting. Where the last commit had
// some callers, they come back one after the other: the first would be committed
// alone, and the rest wait for that. So they get to run before, as long as more come
// of it.
func (w *Writer[T]) fill(first call[T]) []call[T] {
	calls, seen, yields := []call[T]{first}, 0, 0
	if w.last > 1 && w.last < many {
		yields = maxYields
	}
	for len(calls) < w.limit {
		select {
		case c := <-w.calls:
			calls = append(calls, c)
		default:
			if yields == 0 || len(calls) == seen {
				return calls
			}
			seen = len(calls)
			yields--
			runtime.Gosched()
		}
	}
	return calls
}

// flush commits the calls and answers each.
func (w *Writer[T]) flush(calls []call[T]) {
	calls = dropCancelled(calls)
	if len(calls) == 0 {
		return
	}
	items := make([]T, len(calls))
	for i, c := range calls {
		items[i] = c.item
	}
	err := w.try(items)
	if errors.Is(err, ErrAborted) && len(calls) > 1 {
		for _, c := range calls { // find the one at fault, spare its neighbours
			c.result <- w.try([]T{c.item})
		}
		return
	}
	for _, c := range calls {
		c.result <- err
	}
}

// dropCancelled answers the calls whose callers have given up, and keeps the
// others.
func dropCancelled[T any](calls []call[T]) []call[T] {
	kept := calls[:0]
	for _, c := range calls {
		if err := c.ctx.Err(); err != nil {
			c.result <- err
			continue
		}
		kept = append(kept, c)
	}
	return kept
}

// try calls commit and survives its panic. The panic's value is left out of the
// error unless it is an error itself: it could hold an item.
func (w *Writer[T]) try(items []T) (err error) {
	defer func() {
		if v := recover(); v != nil {
			if cause, ok := v.(error); ok {
				err = fmt.Errorf("%w: panic: %w", ErrAborted, cause)
			} else {
				err = fmt.Errorf("%w: panic with a %T", ErrAborted, v)
			}
		}
	}()
	return w.commit(items)
}
