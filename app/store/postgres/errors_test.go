package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/store/storetest"
	"birthday-demo/app/testkit"
)

// TestWhatTheServerSaysOfARowIsNotTold has a server that quotes rows in its errors.
func TestWhatTheServerSaysOfARowIsNotTold(t *testing.T) {
	const (
		name = "kanarienvogel"
		born = "1987-06-05"
	)
	full, fullURL := fresh(t)
	require.NoError(t, full.Put(t.Context(), storetest.Person(name, born)))
	testkit.Needs(t, "pg_dump", "postgresql-client")
	path := dumped(t, fullURL, postgres.Options{})
	for code, hostile := range map[string]string{
		"22P02": "ALTER TABLE people ADD CHECK (username::int > 0)",
		"22007": "ALTER TABLE people ADD CHECK ((username || date_of_birth)::date > '1900-01-01')",
		"P0001": `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not %, %', NEW.username, NEW.date_of_birth; END $$;
			CREATE TRIGGER refuse BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION refuse()`,
		"23514": "ALTER TABLE people ADD CONSTRAINT nobody_here CHECK (username < 'a')",
		"ABCDE": `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not %', NEW.username USING ERRCODE = 'ABCDE'; END $$;
			CREATE TRIGGER refuse BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION refuse()`,
	} {
		s, url := fresh(t)
		server := pgtest.Shared(t)
		require.NoError(t, server.Exec(t.Context(), query[string](t, url, "SELECT current_database()"), hostile))
		for what, do := range map[string]func() error{
			"put":     func() error { return s.Put(t.Context(), storetest.Person(name, born)) },
			"put all": func() error { return s.PutAll(t.Context(), []birthday.Person{storetest.Person(name, born)}) },
			"restore": func() error { _, err := postgres.Restore(t.Context(), url, postgres.Options{}, path, true); return err },
		} {
			err := do()
			require.ErrorContains(t, err, "(SQLSTATE "+code+")", what)
			require.NotContains(t, err.Error(), name, what)
			require.NotContains(t, err.Error(), born, what)
			if code == "23514" {
				require.ErrorContains(t, err, "constraint nobody_here", what)
			}
		}
	}
}
