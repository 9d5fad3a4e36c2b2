package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/store/storetest"
)

// longEnough is a bound that these tests do not reach.
const longEnough = time.Minute

// reading begins an export that reads no further until the test ends it.
func reading(t *testing.T, s *postgres.Store) (end func()) {
	t.Helper()
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	next, end := pull(s.All(context.Background()))
	_, err := next()
	require.NoError(t, err)
	return end
}

// awaitWaiting waits until somebody waits for a lock on people, and gives who.
func awaitWaiting(t *testing.T, url string) (pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		pid = query[int](t, url, "SELECT coalesce(max(pid), 0) FROM pg_locks WHERE relation = 'people'::regclass AND NOT granted")
		return pid != 0
	}, bound, time.Millisecond)
	return pid
}

// TestRequestsPassAStepThatWaits has a step wait behind an export with a slow reader:
// requests wait for less than their own time-out, and the step is taken as soon as
// the export ends. What the URL says of locks is for requests.
func TestRequestsPassAStepThatWaits(t *testing.T) {
	t.Parallel() // it mostly waits
	s, url := fresh(t)
	end := reading(t, s)
	defer end()
	taken := make(chan error, 1)
	go func() {
		taken <- postgres.UntilFree(context.Background(), url+"&lock_timeout=60000", longEnough, "ALTER TABLE people ADD COLUMN note text")
	}()
	tries := map[int]bool{}
	for len(tries) < 3 {
		tries[awaitWaiting(t, url)] = true
		begin := time.Now()
		_, err := s.Get(t.Context(), "ana")
		require.NoError(t, err)
		require.NoError(t, s.Put(t.Context(), storetest.Person("bob", "1990-05-17")))
		require.Less(t, time.Since(begin), time.Second)
	}
	end()
	require.NoError(t, <-taken)
	require.Equal(t, 1, query[int](t, url, "SELECT count(*) FROM information_schema.columns WHERE table_name = 'people' AND column_name = 'note'"))
}

// TestAStepThatGivesUpSaysWhoIsInItsWay has the end come by the clock and by the
// caller.
func TestAStepThatGivesUpSaysWhoIsInItsWay(t *testing.T) {
	t.Parallel() // it mostly waits
	s, url := fresh(t)
	defer reading(t, s)()
	const step = "ALTER TABLE people ADD COLUMN note text"
	err := postgres.UntilFree(t.Context(), url, time.Second, step)
	require.ErrorContains(t, err, "others use the table; gave up after ")
	require.Regexp(t, `held by pid \d+ \(birthday-demo, for \d+ s\): let that end, or end it with SELECT pg_terminate_backend`, err.Error())
	require.NotContains(t, err.Error(), "birthday-demo migrate")

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- postgres.UntilFree(ctx, url, longEnough, step) }()
	awaitWaiting(t, url)
	cancel()
	err = <-ended
	require.ErrorIs(t, err, context.Canceled)

	require.ErrorContains(t, postgres.UntilFree(t.Context(), url, longEnough, "ALTER TABLE people ADD COLUMN"), "42601", "another fault ends it at once")
}

// TestGrantsLockNoTable lets a role in while everybody reads.
func TestGrantsLockNoTable(t *testing.T) {
	s, url := fresh(t)
	defer reading(t, s)()
	_, err := postgres.Migrate(t.Context(), url, postgres.Options{}, postgres.Role{Name: "late", Password: "canary"})
	require.NoError(t, err)
	require.Equal(t, 1, query[int](t, url, "SELECT has_table_privilege('late', 'people', 'DELETE')::int"))
}

// TestWritersPassARestoreThatWaits has one wait behind an import that has not
// committed yet.
func TestWritersPassARestoreThatWaits(t *testing.T) {
	t.Parallel() // it mostly waits
	s, url := fresh(t)
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	path := dumped(t, url, postgres.Options{})
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "BEGIN; INSERT INTO people VALUES ('cyd', '1990-05-17')")
	require.NoError(t, err)
	restored := make(chan error, 1)
	go func() {
		_, err := postgres.Restore(context.Background(), url, postgres.Options{}, path, true)
		restored <- err
	}()
	tries := map[int]bool{}
	for len(tries) < 3 {
		tries[awaitWaiting(t, url)] = true
		begin := time.Now()
		require.NoError(t, s.Put(t.Context(), storetest.Person("bob", "1990-05-17")))
		require.Less(t, time.Since(begin), time.Second)
	}
	_, err = conn.Exec(t.Context(), "COMMIT")
	require.NoError(t, errors.Join(err, conn.Close(t.Context())))
	require.NoError(t, <-restored)
	require.Equal(t, []birthday.Person{storetest.Person("ana", "1990-05-17")}, everyone(t, s))
}
