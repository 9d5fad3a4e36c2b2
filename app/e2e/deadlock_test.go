package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/postgres/pgtest"
)

// TestReplicasDoNotDeadlock has two replicas write the same names: many clients,
// whose puts become statements of many rows, and imports of all the names. The
// service repeats a statement that was the victim of a deadlock, so clients may
// see nothing of it: the server's own count is what tells.
func TestReplicasDoNotDeadlock(t *testing.T) {
	t.Parallel() // it measures no times
	server := pgtest.Shared(t)
	n := seed(t)
	contest := contest{seed: n, names: 300, clients: 64, lasts: time.Duration(size(3, 30)) * time.Second}
	contest.run(t, migrated(t, server))
	require.Empty(t, contest.refused)
	require.Greater(t, contest.puts, 3*contest.statements, "the statements were small")
	require.Zero(t, contest.deadlocks)

	planted := deadlocksOfOppositeOrders(t, migrated(t, server), contest.names)
	require.Positive(t, planted)
	t.Logf("two writers with opposite orders: %d deadlocks", planted)

	proof{
		Proof: "deadlock",
		Figures: map[string]any{
			"seed": n, "replicas": 2, "clients": 2 * contest.clients, "names": contest.names, "acknowledged": contest.puts,
			"statements": contest.statements, "imports": contest.imports, "refused": len(contest.refused), "deadlocks": contest.deadlocks,
		},
		Planted: "two writers that name their rows in opposite orders",
		Caught:  planted > 0,
	}.keep(t)
}

// contest is two replicas whose clients write the same names for a while.
type contest struct {
	seed           uint64
	names, clients int // clients of each replica
	lasts          time.Duration

	puts, statements, imports, deadlocks int
	refused                              []string
}

func (c *contest) run(t *testing.T, store string) {
	t.Helper()
	detectSoon(t, store)
	slowDown(t, store)
	var end atomic.Bool
	var imports atomic.Int64
	var mu sync.Mutex
	var writing sync.WaitGroup
	refuse := func(format string, a ...any) {
		mu.Lock()
		defer mu.Unlock()
		c.refused = append(c.refused, fmt.Sprintf(format, a...))
	}
	services := []*service{serve(t, store), serve(t, store)}
	for i, s := range services {
		for number := range c.clients {
			random := rand.New(rand.NewPCG(c.seed, uint64(i*c.clients+number)))
			writing.Go(func() {
				client := &client{address: s.public}
				defer client.close()
				for !end.Load() {
					status, err := client.put("name"+letters(random.IntN(c.names)), aDate(random.IntN(10_000)))
					if err != nil || status != http.StatusNoContent {
						refuse("put: %d %v", status, err)
					}
				}
			})
		}
		random := rand.New(rand.NewPCG(c.seed, uint64(1_000+i)))
		writing.Go(func() {
			client := &client{address: s.internal}
			defer client.close()
			for !end.Load() {
				status, text, err := client.do(http.MethodPost, "/import", shuffledPeople(random, c.names))
				if err != nil || status != http.StatusOK {
					refuse("import: %d %s %v", status, text, err)
				}
				imports.Add(1)
			}
		})
	}
	time.Sleep(c.lasts)
	end.Store(true)
	writing.Wait()
	for _, s := range services {
		metrics := s.fetch(t, "/metrics")
		c.puts += metric(t, metrics, "birthday_store_puts_total")
		c.statements += metric(t, metrics, "birthday_store_put_statements_total")
		s.stop(t)
	}
	c.imports = int(imports.Load())
	c.deadlocks = deadlocks(t, store)
}

// shuffledPeople gives everybody once, in a random order, as an import takes them.
func shuffledPeople(random *rand.Rand, names int) string {
	var text strings.Builder
	for _, i := range random.Perm(names) {
		_, _ = fmt.Fprintf(&text, "{\"username\": \"name%s\", \"dateOfBirth\": %q}\n", letters(i), aDate(random.IntN(10_000))) // it never fails
	}
	return text.String()
}

// deadlocksOfOppositeOrders puts the same names forwards and backwards, in single
// statements as the service's, until the server has counted a deadlock.
func deadlocksOfOppositeOrders(t *testing.T, store string, names int) int {
	t.Helper()
	detectSoon(t, store)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	forwards := make([]string, names)
	for i := range forwards {
		forwards[i] = "name" + letters(i)
	}
	backwards := slices.Clone(forwards)
	slices.Reverse(backwards)
	var writing sync.WaitGroup
	for _, order := range [][]string{forwards, backwards} {
		writing.Go(func() {
			if err := upsertUntilDeadlock(ctx, store, order); err != nil {
				t.Error(err)
			}
			cancel() // of the other
		})
	}
	writing.Wait()
	return deadlocks(t, store)
}

// upsertUntilDeadlock puts people in an order until a statement is the victim of
// a deadlock, or ctx ends.
func upsertUntilDeadlock(ctx context.Context, store string, order []string) error {
	conn, err := pgx.Connect(ctx, store)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for {
		_, err := conn.Exec(ctx, `INSERT INTO people (username, date_of_birth) SELECT name, '1990-05-17' FROM unnest($1::text[]) AS name
			ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth`, order)
		var reported *pgconn.PgError
		if ctx.Err() != nil || errors.As(err, &reported) && reported.Code == "40P01" {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// detectSoon has the server look for deadlocks often, on connections from now on.
func detectSoon(t *testing.T, store string) {
	t.Helper()
	setInDatabase(t, store, "deadlock_timeout", "50ms")
}

// slowDown has each statement keep its locks for a moment, so that many puts wait
// for the next one, and statements for each other in the middle of their rows.
func slowDown(t *testing.T, store string) {
	t.Helper()
	query[any](t, store, `CREATE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.005); RETURN NULL; END'`)
	query[any](t, store, `CREATE TRIGGER slow_down AFTER INSERT OR UPDATE ON people EXECUTE FUNCTION slow_down()`)
}

// setInDatabase makes a setting the default of a database.
func setInDatabase(t *testing.T, store, name, value string) {
	t.Helper()
	statement := query[string](t, store, `SELECT format('ALTER DATABASE %I SET '||$1||' = %L', current_database(), $2::text)`, name, value)
	query[any](t, store, statement)
}

// query gives the one value that a statement answers, or the zero value.
func query[T any](t *testing.T, store, statement string, arguments ...any) (value T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), store)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	err = conn.QueryRow(t.Context(), statement, arguments...).Scan(&value)
	if !errors.Is(err, pgx.ErrNoRows) {
		require.NoError(t, err)
	}
	return value
}

// metric gives the value of a metric, whatever its labels.
func metric(t *testing.T, metrics, name string) int {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + name + `(?:{.*})? (\S+)$`).FindStringSubmatch(metrics)
	require.NotNil(t, found, name)
	value, err := strconv.ParseFloat(found[1], 64)
	require.NoError(t, err)
	return int(value)
}

// deadlocks gives how many the server has counted in a database. Nobody may be
// connected to it any more: each connection reports what it knows at its end.
func deadlocks(t *testing.T, store string) int {
	t.Helper()
	require.True(t, eventually(patience, func() bool {
		return query[int](t, store, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`) == 0
	}))
	return query[int](t, store, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`)
}
