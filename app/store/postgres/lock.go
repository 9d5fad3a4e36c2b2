package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// tableLockTimeout is how long a statement that keeps services from the table
	// waits for its lock. Behind it their statements wait as well, and each of them
	// for no longer than lockTimeout: so it gives up much earlier, lets them pass,
	// and tries again.
	tableLockTimeout = 300 * time.Millisecond

	// tablePause is how long services are let pass between two tries, and up to as
	// long again at random, lest several keep in step.
	tablePause = 700 * time.Millisecond

	// tableWait bounds all tries together. An export or a dump of a million people
	// takes seconds.
	tableWait = 2 * time.Minute
)

// selectHolders tells who has held a lock on one of our tables for longer than a
// request would. Whose transaction we may not look into is named as well.
const selectHolders = `SELECT coalesce(string_agg(who, ', '), 'nobody any more') FROM (
	SELECT format('pid %s (%s%s)', coalesce(l.pid::text, 'none'),
		coalesce(nullif(a.application_name, ''), a.backend_type, 'unknown program'),
		', for ' || extract(epoch FROM clock_timestamp() - a.xact_start)::int || ' s') AS who
	FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
	WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
		AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND l.relation IN (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = current_schema())
		AND coalesce(clock_timestamp() - a.xact_start > $1::int * interval '1 ms', true)
	GROUP BY l.pid, a.application_name, a.backend_type, a.xact_start ORDER BY a.xact_start LIMIT 5) holders`

// untilFree runs what needs a lock on a table, again and again while others hold
// that. Each try is to be a transaction of its own, with tableLockTimeout. It ends
// with ctx, or after bound with an error that names the others.
func untilFree(ctx context.Context, config *pgx.ConnConfig, bound time.Duration, try func() error) error {
	begin := time.Now()
	for tries := 1; ; tries++ {
		err := try()
		if code(err) != lockNotAvailable {
			return err
		}
		if time.Since(begin) < bound {
			select {
			case <-ctx.Done():
				err = fmt.Errorf("%w: %w", ctx.Err(), err)
			case <-time.After(tablePause + rand.N(tablePause)): //nolint:gosec // jitter needs no secrecy
				continue
			}
		}
		return fmt.Errorf("others use the table; gave up after %d tries in %s, each of %s lest requests wait behind it. "+
			"It is held by %s: let that end, or end it with SELECT pg_terminate_backend(pid), and do this again: %w",
			tries, time.Since(begin).Round(time.Second), tableLockTimeout, holders(ctx, config), err)
	}
}

// holders names those who keep others from the tables.
func holders(ctx context.Context, config *pgx.ConnConfig) (names string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	err := session(ctx, config, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, selectHolders, tableLockTimeout.Milliseconds()).Scan(&names)
	})
	if err != nil {
		return "those whom pg_locks tells of"
	}
	return names
}
