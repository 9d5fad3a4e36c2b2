package postgres_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/store/storetest"
)

var noRole postgres.Role

func TestMigrateTwice(t *testing.T) {
	server := pgtest.Shared(t)
	url := server.URL(empty(t, server))
	before, err := postgres.Status(t.Context(), url, postgres.Options{})
	require.NoError(t, err)
	require.Equal(t, postgres.Schema{Have: 0, Want: 2, Pending: []string{"00001_people", "00002_birth_dates"}}, before)
	for range 2 {
		after, err := postgres.Migrate(t.Context(), url, postgres.Options{}, noRole)
		require.NoError(t, err)
		require.Equal(t, postgres.Schema{Have: 2, Want: 2, Pending: []string{}}, after)
	}
}

// TestMigrateBehindAnExport has a step to take while somebody reads, and two who would
// take it.
func TestMigrateBehindAnExport(t *testing.T) {
	t.Parallel() // it mostly waits
	s, url := fresh(t)
	require.NoError(t, pgtest.Shared(t).Exec(t.Context(), query[string](t, url, "SELECT current_database()"),
		"ALTER TABLE people DROP CONSTRAINT people_birth_date_is_a_day; DELETE FROM goose_db_version WHERE version_id = 2"))
	end := reading(t, s)
	defer end()
	migrated := make(chan error, 2)
	for range cap(migrated) {
		go func() {
			_, err := postgres.Migrate(context.Background(), url, postgres.Options{}, noRole)
			migrated <- err
		}()
	}
	for range 3 {
		awaitWaiting(t, url)
		_, err := s.Get(t.Context(), "ana")
		require.NoError(t, err)
	}
	end()
	for range cap(migrated) {
		require.NoError(t, <-migrated)
	}
	require.Equal(t, 1, query[int](t, url, "SELECT count(*) FROM goose_db_version WHERE version_id = 2"))
}

func TestMigrateAtOnce(t *testing.T) {
	server := pgtest.Shared(t)
	url := server.URL(empty(t, server))
	const replicas = 8
	results := make(chan error, replicas)
	for range replicas {
		go func() {
			_, err := postgres.Migrate(context.Background(), url, postgres.Options{}, postgres.Role{Name: "together", Password: "one"})
			results <- err
		}()
	}
	for range replicas {
		require.NoError(t, <-results)
	}
	require.Equal(t, 1, query[int](t, url, "SELECT count(*) FROM goose_db_version WHERE version_id = 1"))
}

func TestTheStoreWaitsForItsSchema(t *testing.T) {
	server := pgtest.Shared(t)
	url := server.URL(empty(t, server))
	s := open(t, url)
	var behind *postgres.SchemaError
	require.ErrorAs(t, s.Ping(t.Context()), &behind)
	require.Equal(t, postgres.SchemaError{Have: 0, Want: 2}, *behind)
	require.ErrorContains(t, behind, "run `migrate up`")
	require.ErrorIs(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")), birthday.ErrUnavailable)

	_, err := postgres.Migrate(t.Context(), url, postgres.Options{}, noRole)
	require.NoError(t, err)
	require.NoError(t, s.Ping(t.Context()))
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
}

// TestANewerSchemaServes is what makes it possible to go back by a release.
func TestANewerSchemaServes(t *testing.T) {
	s, url := fresh(t)
	require.Equal(t, 1, query[int](t, url, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true) RETURNING 1"))
	require.NoError(t, s.Ping(t.Context()))
	schema, err := postgres.Status(t.Context(), url, postgres.Options{})
	require.NoError(t, err)
	require.EqualValues(t, 99, schema.Have)
	require.Empty(t, schema.Pending)
	_, err = postgres.Migrate(t.Context(), url, postgres.Options{}, noRole)
	require.NoError(t, err)
}

// TestStatementsOfReleases runs what released versions send against the schema of
// this one: version N-1 must work on schema N. Add to them, and change none.
func TestStatementsOfReleases(t *testing.T) {
	_, url := fresh(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	for _, statement := range []string{ // since schema 1
		`INSERT INTO people (username, date_of_birth) VALUES ('ana', '1990-05-17') ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth`,
		`INSERT INTO people (username, date_of_birth) SELECT * FROM unnest('{ana,bob}'::text[], '{1990-05-17,1990-05-18}'::date[]) ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth`,
		`SELECT date_of_birth FROM people WHERE username = 'ana'`,
		`SELECT username, date_of_birth FROM people WHERE username > 'a' ORDER BY username LIMIT 10`,
		`DELETE FROM people WHERE username = 'ana'`,
		`SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`,
	} {
		tag, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
		require.Positive(t, tag.RowsAffected(), statement)
	}
}

// TestTheRoleThatServes may read and write people, and change nothing else. Its
// password is in no log of the server.
func TestTheRoleThatServes(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"fsync": "off", "log_statement": "all"}})
	database := empty(t, server)
	app := postgres.Role{Name: `app "of" us`, Password: "first $ecret"}
	_, err := postgres.Migrate(t.Context(), server.URL(database), postgres.Options{}, app)
	require.NoError(t, err)

	url := server.URLOf(database, app.Name, app.Password)
	s := open(t, url)
	require.NoError(t, s.Ping(t.Context()))
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	require.NoError(t, s.PutAll(t.Context(), crowd(10, 1990)))
	require.NoError(t, s.Delete(t.Context(), "ana"))
	_, err = s.Size()
	require.NoError(t, err)
	_, err = s.Inspect(t.Context())
	require.NoError(t, err)
	schema, err := postgres.Status(t.Context(), url, postgres.Options{})
	require.NoError(t, err)
	require.EqualValues(t, 2, schema.Have)
	for _, statement := range []string{"CREATE TABLE mine ()", "DROP TABLE people", "ALTER TABLE people ADD more text", "TRUNCATE people", "DELETE FROM goose_db_version"} {
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), statement)
		require.ErrorContains(t, err, "42501", statement)
		require.NoError(t, conn.Close(t.Context()))
	}

	changed := postgres.Role{Name: app.Name, Password: "second $ecret"}
	_, err = postgres.Migrate(t.Context(), server.URL(database), postgres.Options{}, changed)
	require.NoError(t, err)
	require.NoError(t, open(t, server.URLOf(database, app.Name, changed.Password)).Ping(t.Context()))
	require.ErrorIs(t, open(t, url).Ping(t.Context()), birthday.ErrUnavailable)
	require.Contains(t, server.Log(), "ALTER ROLE")
	require.NotContains(t, server.Log(), "$ecret")
}

func TestRolesThatCannotBe(t *testing.T) {
	server := pgtest.Shared(t)
	database := migrated(t, server)
	_, err := postgres.Migrate(t.Context(), server.URL(database), postgres.Options{}, postgres.Role{Name: "x", Password: "é"})
	require.ErrorContains(t, err, "printable ASCII")
	_, err = postgres.Migrate(t.Context(), server.URL(database), postgres.Options{}, postgres.Role{Name: "postgres"})
	require.NoError(t, err, "who migrates may serve as well")
	_, err = postgres.Migrate(t.Context(), server.URL(database), postgres.Options{}, postgres.Role{Name: "postgres", Password: "ignored"})
	require.ErrorContains(t, err, "the URL's own role")
	_, err = postgres.Migrate(t.Context(), server.URL(database), postgres.Options{}, postgres.Role{Name: "mistyped"})
	require.ErrorContains(t, err, "no such role")
	require.NoError(t, open(t, server.URL(database)).Ping(t.Context()))

	require.NoError(t, server.Exec(t.Context(), database, "CREATE ROLE nobody_yet LOGIN PASSWORD 'here'"))
	stranger := open(t, server.URLOf(database, "nobody_yet", "here"))
	require.ErrorContains(t, stranger.Ping(t.Context()), "migrate up")
	_, err = postgres.Migrate(t.Context(), server.URL(database), postgres.Options{}, postgres.Role{Name: "nobody_yet"})
	require.NoError(t, err)
	require.NoError(t, stranger.Ping(t.Context()), "it kept the password that it had")
}

func TestMigrateSaysWhichRightIsMissing(t *testing.T) {
	server := pgtest.Shared(t)
	database := empty(t, server)
	require.NoError(t, server.Exec(t.Context(), "postgres", "CREATE ROLE owner LOGIN PASSWORD 'canary'"))
	require.NoError(t, server.Exec(t.Context(), "postgres", "ALTER DATABASE "+database+" OWNER TO owner"))
	url := server.URLOf(database, "owner", "canary")
	_, err := postgres.Migrate(t.Context(), url, postgres.Options{}, noRole)
	require.NoError(t, err, "an owner needs no other right")
	_, err = postgres.Migrate(t.Context(), url, postgres.Options{}, postgres.Role{Name: "newcomer", Password: "x"})
	require.ErrorContains(t, err, "with CREATEROLE where a role is to be made")
	require.NotContains(t, err.Error(), "run `migrate up`")
	require.NotErrorIs(t, err, birthday.ErrUnavailable)
}
