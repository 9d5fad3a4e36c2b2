// Package postgres keeps people in a table of a PostgreSQL database, which any
// number of processes may share. A write that was acknowledged is committed, and
// with a synchronous standby it is there as well; writers of one process that
// come together share one statement. The package knows nothing of HTTP, of
// clocks, or of what a birthday is good for.
//
// Nothing waits for ever: a call ends within some seconds, whatever becomes of
// the server and the network. Connections heal by themselves, also when another
// server of the URL has become the primary; see connect.go and call.go.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/coalesce"
)

const (
	// lanes is how many statements of puts may be at work at once: while the
	// server syncs one, another is sent. More of them would be smaller ones.
	lanes = 2

	// maxBatch bounds one statement: as many as may be in flight by default.
	maxBatch = 1024

	// putTimeout is how long a Put may take whose caller names no time: the
	// statement at work, and its own.
	putTimeout = 2 * callTimeout

	// closeTimeout is how long Close waits for what is at work.
	closeTimeout = callTimeout + 3*time.Second
)

const (
	upsertOne = `INSERT INTO people (username, date_of_birth) VALUES ($1, $2)
		ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth`
	upsertMany = `INSERT INTO people (username, date_of_birth) SELECT * FROM unnest($1::text[], $2::date[])
		ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth`
	selectOne   = `SELECT date_of_birth FROM people WHERE username = $1`
	selectAfter = `SELECT username, date_of_birth FROM people WHERE username > $1 ORDER BY username LIMIT $2`
	deleteOne   = `DELETE FROM people WHERE username = $1`
)

var errNoDay = errors.New("the birth date is no day of the calendar")

// Store is a birthday.Store in a PostgreSQL database.
type Store struct {
	pool   *pgxpool.Pool
	lanes  [lanes]*coalesce.Writer[birthday.Person]
	seed   maphash.Seed // which lane a name goes
	closed chan struct{}
	close  func() error

	putting                            atomic.Int64 // puts at work
	puts, statements, retries, dropped atomic.Int64 // see Stats
}

var _ birthday.Store = (*Store)(nil)

// Open makes a store of the database that the URL names, as pgx understands it:
// several hosts, PG* variables and sslmode=verify-full included. It connects to
// nobody yet, so that a service may start before its database: Ping tells.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	config, err := poolConfig(url, o)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{closed: make(chan struct{}), seed: maphash.MakeSeed()}
	config.ShouldPing, config.PrepareConn = s.look, isOpen
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	for i := range s.lanes {
		s.lanes[i] = coalesce.New(maxBatch, s.commit)
	}
	s.close = sync.OnceValue(s.shut)
	return s, nil
}

// Put makes the person durable, together with others that are waiting. A lone one
// needs no other goroutine for it, which saves a lone client some time.
func (s *Store) Put(ctx context.Context, p birthday.Person) error {
	if !exists(p.Born) {
		return fmt.Errorf("put a person: %w", errNoDay)
	}
	put := s.putWithOthers
	if s.putting.Add(1) == 1 {
		put = s.putAlone
	}
	defer s.putting.Add(-1)
	if err := put(ctx, p); err != nil {
		return fmt.Errorf("put a person: %w", err)
	}
	s.puts.Add(1)
	return nil
}

func (s *Store) putAlone(ctx context.Context, p birthday.Person) error {
	s.statements.Add(1)
	return s.write(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return upsert(ctx, conn, []birthday.Person{p})
	})
}

func (s *Store) putWithOthers(ctx context.Context, p birthday.Person) error {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, putTimeout)
		defer cancel()
	}
	err := s.lane(p.Username).Do(ctx, p)
	if errors.Is(err, coalesce.ErrClosed) || errors.Is(err, coalesce.ErrUnknown) || errors.Is(err, context.DeadlineExceeded) {
		err = unavailable(err)
	}
	return err
}

// lane gives the writer of a name: always the same, so that lanes do not wait for
// each other's rows.
func (s *Store) lane(name birthday.Username) *coalesce.Writer[birthday.Person] {
	return s.lanes[maphash.String(s.seed, string(name))%lanes]
}

// commit puts a batch in one statement. Its time is its own: no impatient caller
// ends it for the others.
func (s *Store) commit(people []birthday.Person) error {
	err := s.write(context.Background(), func(ctx context.Context, conn *pgx.Conn) error {
		s.statements.Add(1)
		return upsert(ctx, conn, sortedLastWins(people))
	})
	if err != nil && atFault(err) {
		err = fmt.Errorf("%w: %w", coalesce.ErrAborted, err)
	}
	return err
}

// querier is a connection or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, arguments ...any) pgx.Row
}

// upsert puts people who are sorted by username, each once.
func upsert(ctx context.Context, db querier, people []birthday.Person) error {
	if len(people) == 1 {
		_, err := db.Exec(ctx, upsertOne, string(people[0].Username), midnight(people[0].Born))
		return err
	}
	names, dates := make([]string, len(people)), make([]time.Time, len(people))
	for i, p := range people {
		names[i], dates[i] = string(p.Username), midnight(p.Born)
	}
	_, err := db.Exec(ctx, upsertMany, names, dates)
	return err
}

// sortedLastWins gives each username once, with the last of its dates, in order.
// A statement may not touch a row twice; and those of several processes, which
// lock rows in the order given, must all have the same one, or they deadlock.
func sortedLastWins(people []birthday.Person) []birthday.Person {
	if len(people) == 1 {
		return people
	}
	sorted := slices.Clone(people)
	slices.SortStableFunc(sorted, func(a, b birthday.Person) int {
		return strings.Compare(string(a.Username), string(b.Username))
	})
	kept := sorted[:0]
	for i, p := range sorted {
		if i+1 == len(sorted) || sorted[i+1].Username != p.Username {
			kept = append(kept, p)
		}
	}
	return kept
}

// Get reads one person.
func (s *Store) Get(ctx context.Context, name birthday.Username) (birthday.Person, error) {
	p := birthday.Person{Username: name}
	err := s.read(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		var born day
		err = conn.QueryRow(ctx, selectOne, string(name)).Scan(&born)
		p.Born = born.Date
		if err == nil && !exists(p.Born) {
			err = errNoDay
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = birthday.ErrNotFound
	}
	if err != nil {
		return birthday.Person{}, fmt.Errorf("get a person: %w", err)
	}
	return p, nil
}

// Delete removes one person, in a statement of its own: erasure is rare, and
// needs to know whether there was someone. It locks one row and so waits for no
// more than one statement of another, which never waits for it in turn.
func (s *Store) Delete(ctx context.Context, name birthday.Username) error {
	err := s.write(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, deleteOne, string(name))
		if err == nil && tag.RowsAffected() == 0 {
			err = birthday.ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete a person: %w", err)
	}
	return nil
}

// After reads a page of people in the order of the bytes of their usernames.
func (s *Store) After(ctx context.Context, name birthday.Username, limit int) (people []birthday.Person, err error) {
	err = s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		people, err = page(ctx, conn, name, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read a page of people: %w", err)
	}
	return people, nil
}

// page reads the people that follow a name.
func page(ctx context.Context, conn *pgx.Conn, name birthday.Username, limit int) ([]birthday.Person, error) {
	rows, err := conn.Query(ctx, selectAfter, string(name), limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (birthday.Person, error) {
		var name string
		var born day
		err := row.Scan(&name, &born)
		return birthday.Person{Username: birthday.Username(name), Born: born.Date}, err
	})
}

// Close waits for writes that were taken, and lets go of the connections. It may
// be called again.
func (s *Store) Close() error { return s.close() }

func (s *Store) shut() error {
	close(s.closed)
	for _, lane := range s.lanes {
		lane.Close()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.pool.Close()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(closeTimeout):
		return fmt.Errorf("close store: %w: connections are still at work", birthday.ErrUnavailable)
	}
}
