package postgres_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/store/storetest"
	"birthday-demo/app/testkit"
)

// TestADatabaseThatIsNotInUTF8 is refused by all that would use it, before a name is
// sent there.
func TestADatabaseThatIsNotInUTF8(t *testing.T) {
	testkit.Needs(t, "pg_dump", "postgresql-client")
	_, other := fresh(t)
	path := dumped(t, other, postgres.Options{})
	server := pgtest.Shared(t)
	for _, encoding := range []string{"LATIN1", "EUC_JP", "SQL_ASCII", "WIN1252"} {
		t.Run(encoding, func(t *testing.T) {
			database := "in_" + strings.ToLower(encoding)
			require.NoError(t, server.Exec(t.Context(), "postgres", "CREATE DATABASE "+database+" ENCODING '"+encoding+"' TEMPLATE template0"))
			require.NoError(t, server.Exec(t.Context(), database, "CREATE TABLE people (username text COLLATE \"C\" PRIMARY KEY, date_of_birth date NOT NULL)"))
			url := server.URL(database)
			s := open(t, url)
			for what, do := range map[string]func() error{
				"migrate up":     func() error { _, err := postgres.Migrate(t.Context(), url, postgres.Options{}, noRole); return err },
				"migrate status": func() error { _, err := postgres.Status(t.Context(), url, postgres.Options{}); return err },
				"ping":           func() error { return s.Ping(t.Context()) },
				"inspect":        func() error { _, err := s.Inspect(t.Context()); return err },
				"put":            func() error { return s.Put(t.Context(), storetest.Person("Ána", "1990-05-17")) },
				"put all":        func() error { return s.PutAll(t.Context(), crowd(2, 1990)) },
				"get":            func() error { _, err := s.Get(t.Context(), "さくら"); return err },
				"restore":        func() error { _, err := postgres.Restore(t.Context(), url, postgres.Options{}, path, true); return err },
				"dump":           func() error { return postgres.Dump(t.Context(), url, postgres.Options{}, new(bytes.Buffer)) },
			} {
				err := do()
				require.ErrorContains(t, err, "keeps text as "+encoding, what)
				require.ErrorContains(t, err, "ENCODING 'UTF8' TEMPLATE template0", what)
				require.ErrorIs(t, err, birthday.ErrUnavailable, what)
				require.NotContains(t, err.Error(), "0x", what)
			}
			require.Zero(t, query[int](t, url, "SELECT count(*) FROM people"))
		})
	}
}

// TestNamesAreSentAsUTF8 has everything that could ask for another encoding do so.
func TestNamesAreSentAsUTF8(t *testing.T) {
	testkit.Needs(t, "pg_dump", "postgresql-client")
	t.Setenv("PGCLIENTENCODING", "LATIN1")
	t.Setenv("PGOPTIONS", "-c client_encoding=LATIN1")
	server := pgtest.Shared(t)
	database := empty(t, server)
	role := postgres.Role{Name: "latin", Password: "canary"}
	_, err := postgres.Migrate(t.Context(), server.URL(database)+"&client_encoding=LATIN1", postgres.Options{}, role)
	require.NoError(t, err)
	require.NoError(t, server.Exec(t.Context(), database, "ALTER ROLE latin SET client_encoding = 'LATIN1'"))
	people := []birthday.Person{storetest.Person("Ána", "1990-05-17"), storetest.Person("さくら", "1990-05-17")}
	for _, options := range []string{
		"", "&client_encoding=LATIN1", "&options=-c%20client_encoding%3DLATIN1", "&client_encoding=EUC_JP&default_query_exec_mode=exec",
		"&client_encoding=LATIN1&default_query_exec_mode=simple_protocol",
	} {
		url := server.URLOf(database, role.Name, role.Password) + options
		s := open(t, url)
		require.NoError(t, s.Put(t.Context(), people[0]), options)
		require.NoError(t, s.PutAll(t.Context(), people), options)
		require.Equal(t, people, everyone(t, s), options)
		require.Equal(t, "c3816e61 e38195e3818fe38289",
			query[string](t, server.URL(database), "SELECT string_agg(encode(convert_to(username, 'UTF8'), 'hex'), ' ' ORDER BY username) FROM people"), options)
		n, err := postgres.Restore(t.Context(), url, postgres.Options{}, dumped(t, url, postgres.Options{}), true)
		require.NoError(t, err, options)
		require.Equal(t, len(people), n)
		require.Equal(t, people, everyone(t, s), options)
	}
}
