package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// sizeTimeout is short, as metrics wait for it.
	sizeTimeout = time.Second

	selectWritable = `SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'`
	selectAllowed  = `SELECT has_table_privilege('people', 'SELECT') AND has_table_privilege('people', 'INSERT')
		AND has_table_privilege('people', 'UPDATE') AND has_table_privilege('people', 'DELETE')`
	selectBroken = `SELECT count(*) FROM people WHERE NOT (` + inCalendar + `)`
	selectSize   = `SELECT pg_total_relation_size('people')`
	selectServer = `SELECT current_setting('server_version'), current_user, current_setting('synchronous_standby_names'),
		current_setting('synchronous_commit'), current_setting('fsync'),
		coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)`
)

var (
	// ErrReadOnly says that the server is a standby, or takes no writes for
	// another reason.
	ErrReadOnly = errors.New("the server takes no writes")

	errNotAllowed = errors.New("the role may not read and write people: run `migrate up` for it")
)

// Ping gives an error when the server would not take reads and writes of people:
// a *SchemaError when its schema is behind.
func (s *Store) Ping(ctx context.Context) error {
	err := s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if err := demand(ctx, conn, selectWritable, ErrReadOnly); err != nil {
			return err
		}
		schema, err := readSchema(ctx, conn)
		if err == nil {
			err = schema.Err()
		}
		if err != nil {
			return err
		}
		return demand(ctx, conn, selectAllowed, errNotAllowed)
	})
	if err != nil {
		return fmt.Errorf("ping store: %w", err)
	}
	return nil
}

// demand gives otherwise when the query does not answer true.
func demand(ctx context.Context, conn *pgx.Conn, query string, otherwise error) error {
	var so bool
	if err := conn.QueryRow(ctx, query).Scan(&so); err != nil {
		return err
	}
	if !so {
		return otherwise
	}
	return nil
}

// Size gives the bytes that people and their index take on the server's disk.
func (s *Store) Size() (n int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), sizeTimeout)
	defer cancel()
	err = s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, selectSize).Scan(&n)
	})
	if err != nil {
		return 0, fmt.Errorf("size of store: %w", err)
	}
	return n, nil
}

// Broken counts the rows whose birth date is no day of ours: put in by hand, before
// the table refused them. To find them is FindBroken. It reads the whole table.
func (s *Store) Broken(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, bulkTimeout)
	defer cancel()
	err = s.inTransaction(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, selectBroken).Scan(&n) })
	if err != nil {
		return 0, fmt.Errorf("count rows that cannot be read: %w", err)
	}
	return n, nil
}

// FindBroken and ValidateDates are for an operator: the first finds those rows; once
// there are none, the second has the server vouch for it.
const (
	FindBroken    = `SELECT username FROM people WHERE NOT (` + inCalendar + `)`
	ValidateDates = `ALTER TABLE people VALIDATE CONSTRAINT people_birth_date_is_a_day`
)

// Server says what a server promises.
type Server struct {
	Version string `json:"version"`
	User    string `json:"user"`
	TLS     bool   `json:"tls"`
	// Standbys are its synchronous_standby_names. Without them, a failover may
	// lose what was acknowledged last.
	Standbys string `json:"standbys"`
	// Commit and Fsync are its synchronous_commit and fsync: off means that even
	// its own crash may lose what was acknowledged.
	Commit string `json:"commit"`
	Fsync  string `json:"fsync"`
}

// Durable says whether what was acknowledged survives a crash of the server.
func (s Server) Durable() bool { return s.Commit != "off" && s.Fsync == "on" }

// Replicated says whether what was acknowledged survives the loss of the server.
func (s Server) Replicated() bool {
	return s.Standbys != "" && (s.Commit == "on" || s.Commit == "remote_apply" || s.Commit == "remote_write")
}

// Inspect asks the server what it promises.
func (s *Store) Inspect(ctx context.Context) (server Server, err error) {
	err = s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, selectServer).Scan(&server.Version, &server.User, &server.Standbys,
			&server.Commit, &server.Fsync, &server.TLS)
	})
	if err != nil {
		return Server{}, fmt.Errorf("inspect the server: %w", err)
	}
	return server, nil
}

// Stats are figures of the pool and of the calls, for metrics. All but the first
// four only grow.
type Stats struct {
	Open, Idle, Busy, Max int64         // connections
	Connects              int64         // connections that were begun
	Waits                 int64         // calls that found no idle connection
	Waited                time.Duration // what calls waited for a connection
	Dropped               int64         // connections that turned out to be useless
	Retries               int64         // calls that were tried a second time
	Puts, Statements      int64         // puts that succeeded, and the statements they were tried in
}

// Stats gives the figures.
func (s *Store) Stats() Stats {
	p := s.pool.Stat()
	return Stats{
		Open: int64(p.TotalConns()), Idle: int64(p.IdleConns()), Busy: int64(p.AcquiredConns()), Max: int64(p.MaxConns()),
		Connects: p.NewConnsCount(), Waits: p.EmptyAcquireCount(), Waited: p.EmptyAcquireWaitTime(),
		Dropped: s.dropped.Load(), Retries: s.retries.Load(),
		Puts: s.puts.Load(), Statements: s.statements.Load(),
	}
}
