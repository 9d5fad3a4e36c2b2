package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"birthday-demo/app/birthday"
)

const (
	// callTimeout bounds a call of the database with all that belongs to it: to
	// wait for a connection, to make one, and to try a second time.
	callTimeout = 5 * time.Second

	// retryAfter is how long to wait before the second try, and half of it again
	// at random, lest all come back at once.
	retryAfter = 60 * time.Millisecond
)

// call is what is done on a connection.
type call func(ctx context.Context, conn *pgx.Conn) error

// write runs a call that changes something, and a second time when the first
// surely changed nothing.
//
// A connection that broke in the middle leaves open whether the statement was
// committed. It is not repeated then, although an upsert could be: between its
// two commits another client may have put a newer date, and readers would see
// the older one come back. A delete would report a stranger whom it erased
// itself. The caller is told "unknown" and decides.
func (s *Store) write(ctx context.Context, do call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.run(ctx, keptNothing, do)
	if err != nil && ctx.Err() != nil && !errors.Is(err, birthday.ErrUnavailable) {
		return fmt.Errorf("%w: gave up waiting for the database, the outcome is unknown: %w", birthday.ErrUnavailable, err)
	}
	return err
}

// read runs a call that changes nothing, and a second time when the server was
// not there.
func (s *Store) read(ctx context.Context, do call) error {
	return s.run(ctx, func(err error) bool { return keptNothing(err) || lost(err) }, do)
}

func (s *Store) run(ctx context.Context, again func(error) bool, do call) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.attempt(ctx, again, do)
}

// attempt runs a call as long as ctx lasts, and a second time when again says so.
func (s *Store) attempt(ctx context.Context, again func(error) bool, do call) error {
	err := s.once(ctx, do)
	if err != nil && again(err) && pause(ctx) {
		s.retries.Add(1)
		err = s.once(ctx, do)
	}
	return explain(err)
}

// once runs a call on a connection of the pool.
func (s *Store) once(ctx context.Context, do call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return s.closedIsUnavailable(err)
	}
	defer conn.Release()
	start := time.Now()
	if err = do(ctx, conn.Conn()); err == nil {
		err = unreplicated(conn.Conn())
	}
	silent := errors.Is(err, context.DeadlineExceeded) && time.Since(start) > statementTimeout
	if err != nil && (silent || stale(err) || lost(err)) {
		s.drop(conn.Conn())
	}
	return err
}

func (s *Store) closedIsUnavailable(err error) error {
	select {
	case <-s.closed:
		return unavailable(err)
	default:
		return err
	}
}

// drop closes a connection whose server is gone or not to be written to, and all
// that are idle: they lead to the same one.
func (s *Store) drop(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	_ = conn.Close(ctx) // it is of no use anyway
	s.dropped.Add(1)
	s.pool.Reset()
}

// idleUnseen is how long a connection may be idle and still be taken for good.
const idleUnseen = time.Second

// look sees whether a connection that was idle for a while still leads somewhere.
// The pool would do that too, but one by one: with a server that has vanished, a
// time-out for each.
func (s *Store) look(ctx context.Context, p pgxpool.ShouldPingParams) bool {
	if p.IdleDuration > idleUnseen {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
		defer cancel()
		if err := p.Conn.Ping(ctx); err != nil {
			s.drop(p.Conn)
		}
	}
	return false // isOpen is asked next
}

// isOpen lets the pool give out a connection.
func isOpen(_ context.Context, conn *pgx.Conn) (bool, error) { return !conn.IsClosed(), nil }

// pause waits for a moment, or says that there is no time.
func pause(ctx context.Context) bool {
	wait := retryAfter + rand.N(retryAfter/2) //nolint:gosec // jitter needs no secrecy
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
}
