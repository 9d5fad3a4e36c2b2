package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) birthday.Store {
		s, _ := fresh(t)
		return s
	})
}

// query asks a database for one value.
func query[T any](t testing.TB, url, sql string, arguments ...any) (value T) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	require.NoError(t, conn.QueryRow(context.Background(), sql, arguments...).Scan(&value))
	return value
}

// TestWritersShareAStatement has 256 writers put the same few names and one of
// their own: of each name the last put counts, and none comes twice in a statement.
func TestWritersShareAStatement(t *testing.T) {
	s, _ := fresh(t)
	const writers, each = 256, 8
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := 1; i <= each; i++ {
				own := birthday.Person{Username: storetest.Username(w), Born: birthday.Date{Year: 1000 + i, Month: 1, Day: 1}}
				common := birthday.Person{Username: "everybody" + storetest.Username(i%3), Born: own.Born}
				if err := errors.Join(s.Put(context.Background(), own), s.Put(context.Background(), common)); err != nil {
					t.Errorf("put: %v", err)
				}
			}
		})
	}
	all.Wait()
	people, err := s.After(t.Context(), "", writers)
	require.NoError(t, err)
	for w, p := range people {
		require.Equal(t, birthday.Person{Username: storetest.Username(w), Born: birthday.Date{Year: 1000 + each, Month: 1, Day: 1}}, p)
	}
	stats := s.Stats()
	t.Logf("%d puts in %d statements", stats.Puts, stats.Statements)
	require.EqualValues(t, 2*writers*each, stats.Puts)
	require.Less(t, stats.Statements, stats.Puts/4)
	require.Zero(t, stats.Retries)
}

// TestOppositeOrdersDoNotDeadlock has two processes' stores put the same names at
// the same time, one up and one down the alphabet.
func TestOppositeOrdersDoNotDeadlock(t *testing.T) {
	first, url := fresh(t)
	second := open(t, url)
	const writers, rounds, names = 200, 20, 200
	var all sync.WaitGroup
	for w := range writers {
		for _, way := range []struct {
			s    *postgres.Store
			name func(int) birthday.Username
		}{
			{first, func(i int) birthday.Username { return storetest.Username((w + i) % names) }},
			{second, func(i int) birthday.Username { return storetest.Username((2*names - w - i) % names) }},
		} {
			all.Go(func() {
				for i := range rounds {
					p := birthday.Person{Username: way.name(i), Born: birthday.Date{Year: 1990, Month: 1, Day: 1 + i}}
					if err := way.s.Put(context.Background(), p); err != nil {
						t.Errorf("put: %v", err)
					}
				}
			})
		}
	}
	all.Wait()
	require.Zero(t, first.Stats().Retries+second.Stats().Retries)
	require.Less(t, first.Stats().Statements, int64(writers*rounds/2), "they were in statements with others")
}

// TestADeleteBesidePutsTellsTheTruth counts: of the deletes of one name that say
// "there was one", there cannot be more than puts.
func TestADeleteBesidePutsTellsTheTruth(t *testing.T) {
	s, _ := fresh(t)
	const pairs, puts, deletes = 8, 15, 60
	ana := storetest.Person("ana", "1990-05-17")
	var all sync.WaitGroup
	var mu sync.Mutex
	deleted := 0
	for range pairs {
		all.Go(func() {
			for range puts {
				if err := s.Put(context.Background(), ana); err != nil {
					t.Errorf("put: %v", err)
				}
			}
		})
		all.Go(func() {
			for range deletes {
				err := s.Delete(context.Background(), "ana")
				if err != nil && !errors.Is(err, birthday.ErrNotFound) {
					t.Errorf("delete: %v", err)
				}
				if err == nil {
					mu.Lock()
					deleted++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	require.Positive(t, deleted)
	require.LessOrEqual(t, deleted, pairs*puts)
}

func TestAnImpossibleDateIsNotWritten(t *testing.T) {
	s, url := fresh(t)
	require.ErrorContains(t, s.Put(t.Context(), birthday.Person{Username: "ana"}), "no day of the calendar")
	require.ErrorContains(t, s.PutAll(t.Context(), []birthday.Person{{Username: "ana"}}), "no day of the calendar")
	_, err := s.Get(t.Context(), "ana")
	require.ErrorIs(t, err, birthday.ErrNotFound)

	database := query[string](t, url, "SELECT current_database()")
	for _, date := range noDates {
		err := pgtest.Shared(t).Exec(t.Context(), database, "INSERT INTO people VALUES ('ana', '"+date+"')")
		require.ErrorContains(t, err, "people_birth_date_is_a_day", "by hand")
	}
	require.NoError(t, pgtest.Shared(t).Exec(t.Context(), database, "INSERT INTO people VALUES ('ana', '0001-01-01'), ('bob', '9999-12-31')"))
}

// noDates are dates of PostgreSQL that are none of ours.
var noDates = []string{"infinity", "-infinity", "10000-01-01", "0044-03-15 BC"}

// putByHand puts a row for each of noDates, as an operator could before the table
// refused them: named a0, a1, and so on.
func putByHand(t *testing.T, url string) {
	t.Helper()
	statements := "ALTER TABLE people DROP CONSTRAINT people_birth_date_is_a_day; DELETE FROM goose_db_version WHERE version_id = 2;"
	for i, date := range noDates {
		statements += fmt.Sprintf("INSERT INTO people VALUES ('a%d', '%s');", i, date)
	}
	require.NoError(t, pgtest.Shared(t).Exec(t.Context(), query[string](t, url, "SELECT current_database()"), statements))
	_, err := postgres.Migrate(t.Context(), url, postgres.Options{}, noRole)
	require.NoError(t, err, "the rows stay")
}

// TestRowsPutInByHandSpoilNoOthers reads those whose date is no date among others,
// and mends them.
func TestRowsPutInByHandSpoilNoOthers(t *testing.T) {
	s, url := fresh(t)
	putByHand(t, url)
	first, last := storetest.Person("Zoe", "1990-05-17"), storetest.Person("bob", "1990-05-17")
	require.NoError(t, s.PutAll(t.Context(), []birthday.Person{first, last}))
	want := []birthday.Person{first, {Username: "a0"}, {Username: "a1"}, {Username: "a2"}, {Username: "a3"}, last}
	for _, mode := range []string{"", "&default_query_exec_mode=exec", "&default_query_exec_mode=simple_protocol"} {
		s := open(t, url+mode)
		require.Equal(t, want, everyone(t, s), mode)
		people, err := s.After(t.Context(), "", 10)
		require.NoError(t, err)
		require.Equal(t, want, people, mode)
		_, err = s.Get(t.Context(), "a0")
		require.EqualError(t, err, "get a person: the birth date is no day of the calendar", mode)
	}
	broken := func() int {
		n, err := s.Broken(t.Context())
		require.NoError(t, err)
		return n
	}
	database := query[string](t, url, "SELECT current_database()")
	require.Equal(t, len(noDates), broken())
	require.Equal(t, "a0", query[string](t, url, postgres.FindBroken+" ORDER BY username"))
	require.ErrorContains(t, pgtest.Shared(t).Exec(t.Context(), database, postgres.ValidateDates), "23514")
	require.NoError(t, s.Put(t.Context(), storetest.Person("a0", "1990-05-17")))
	require.NoError(t, s.PutAll(t.Context(), []birthday.Person{storetest.Person("a1", "1990-05-17"), storetest.Person("a2", "1990-05-17")}))
	require.NoError(t, s.Delete(t.Context(), "a3"))
	require.Zero(t, broken())
	require.NoError(t, pgtest.Shared(t).Exec(t.Context(), database, postgres.ValidateDates))
}

func TestPeopleInTheirOrderWhateverTheDatabaseSortsBy(t *testing.T) {
	s, url := fresh(t)
	require.NoError(t, s.PutAll(t.Context(), []birthday.Person{
		storetest.Person("Zoe", "1990-05-17"), storetest.Person("ana", "1990-05-17"), storetest.Person("Ána", "1990-05-17"), storetest.Person("さくら", "1990-05-17"),
	}))
	require.Equal(t, "Zoe ana Ána さくら", query[string](t, url, "SELECT string_agg(username, ' ' ORDER BY username) FROM people"))
}

func TestSizeAndServer(t *testing.T) {
	s, _ := fresh(t)
	size, err := s.Size()
	require.NoError(t, err)
	require.Positive(t, size)
	server, err := s.Inspect(t.Context())
	require.NoError(t, err)
	require.Equal(t, "postgres", server.User)
	require.False(t, server.Replicated())
	require.False(t, server.Durable(), "the tests' server has fsync off")
	require.Equal(t, postgres.Server{}.TLS, server.TLS)
	stats := s.Stats()
	require.EqualValues(t, 16, stats.Max)
	require.Positive(t, stats.Connects)
}

func TestClosingWhileBusy(t *testing.T) {
	s, _ := fresh(t)
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for {
				if _, err := s.Get(context.Background(), "ana"); err != nil {
					if !errors.Is(err, birthday.ErrUnavailable) {
						t.Errorf("get: %v", err)
					}
					return
				}
			}
		})
	}
	next, stop := pull(s.All(context.Background()))
	defer stop()
	_, err := next()
	require.NoError(t, err, "an export is under way, and its reader slow")
	start := time.Now()
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	all.Wait()
	require.Less(t, time.Since(start), 5*time.Second)
}

func TestAnImpatientCallerCostsNoConnection(t *testing.T) {
	s, _ := fresh(t)
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	before := s.Stats().Connects
	for i := range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Microsecond)
		_, err := s.Get(ctx, "ana")
		cancel()
		if err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
	}
	require.LessOrEqual(t, s.Stats().Connects, before+1)
}
