package postgres_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/store/storetest"
)

func TestAURLThatIsNone(t *testing.T) {
	for _, url := range []string{"postgres://ana:secret@host:port/x", "postgres://ana:secret@host/x?sslmode=perhaps"} {
		_, err := postgres.Open(t.Context(), url, postgres.Options{})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestThePasswordIsReadAgain(t *testing.T) {
	server := pgtest.Shared(t)
	database, file := empty(t, server), filepath.Join(t.TempDir(), "password")
	app := postgres.Role{Name: "rotating", Password: "first"}
	rotate := func() {
		_, err := postgres.Migrate(t.Context(), server.URL(database), postgres.Options{}, app)
		require.NoError(t, err)
	}
	rotate()
	s := openWith(t, server.URLOf(database, app.Name, ""), postgres.Options{PasswordFile: file})
	err := s.Ping(t.Context())
	require.ErrorIs(t, err, birthday.ErrUnavailable)
	require.ErrorContains(t, err, file)
	require.NoError(t, os.WriteFile(file, []byte("first\n"), 0o600))
	require.NoError(t, s.Ping(t.Context()))

	app.Password = "second"
	rotate()
	require.NoError(t, s.Ping(t.Context()), "connections that are open stay")
	terminate := `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'rotating'`
	query[int](t, server.URL(database), terminate)
	err = s.Ping(t.Context())
	require.ErrorIs(t, err, birthday.ErrUnavailable)
	require.NotContains(t, err.Error(), "first")
	require.NoError(t, os.WriteFile(file, []byte("second"), 0o600))
	require.NoError(t, s.Ping(t.Context()))

	schema, err := postgres.Status(t.Context(), server.URLOf(database, app.Name, ""), postgres.Options{PasswordFile: file})
	require.NoError(t, err)
	require.EqualValues(t, 2, schema.Have)
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{TLS: true, Settings: map[string]string{"fsync": "off"}})
	url := server.URL(migrated(t, server)) // which says verify-full, and names the CA
	s := open(t, url)
	require.NoError(t, s.Ping(t.Context()))
	inspected, err := s.Inspect(t.Context())
	require.NoError(t, err)
	require.True(t, inspected.TLS)

	other := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, pgtest.WriteAuthority(other))
	for what, wrong := range map[string]struct{ url, says string }{
		"another CA":   {strings.Replace(url, filepath.Base(filepath.Dir(server.CA)), "none", 1), "unable to read CA file"},
		"foreign CA":   {replaceCA(url, server.CA, other), "unknown authority"},
		"another name": {strings.Replace(url, "127.0.0.1", "localhost", 1), "not valid for any names"},
		"no TLS":       {strings.Replace(url, "verify-full", "disable", 1), "no encryption"},
	} {
		s, err := postgres.Open(t.Context(), wrong.url, postgres.Options{})
		if err == nil {
			err = s.Ping(t.Context())
			require.ErrorIs(t, err, birthday.ErrUnavailable, what)
			require.NoError(t, s.Close())
		}
		require.ErrorContains(t, err, wrong.says, what)
	}
}

func replaceCA(url, from, to string) string {
	escape := func(path string) string { return strings.ReplaceAll(path, "/", "%2F") }
	return strings.Replace(url, escape(from), escape(to), 1)
}

// locked keeps the table from everybody until the test ends it.
func locked(t *testing.T, url string) (unlock func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "BEGIN; LOCK TABLE people")
	require.NoError(t, err)
	return func() { require.NoError(t, conn.Close(context.Background())) }
}

func TestALockedTable(t *testing.T) {
	t.Parallel() // it mostly waits
	s, url := fresh(t)
	quick := open(t, url+"&lock_timeout=100")
	slow := open(t, url+"&statement_timeout=100")
	unlock := locked(t, url)
	for _, tt := range []struct {
		s      *postgres.Store
		least  time.Duration
		reason string
	}{
		{quick, 0, "lock timeout"},
		{slow, 0, "statement timeout"},
		{s, time.Second, "lock timeout"},
	} {
		start := time.Now()
		_, err := tt.s.Get(t.Context(), "ana")
		require.ErrorIs(t, err, birthday.ErrUnavailable)
		require.ErrorContains(t, err, tt.reason)
		require.GreaterOrEqual(t, time.Since(start), tt.least)
		require.Less(t, time.Since(start), bound)
		err = tt.s.Put(t.Context(), storetest.Person("ana", "1990-05-17"))
		require.ErrorIs(t, err, birthday.ErrUnavailable)
	}
	unlock()
	healed(t, s)
}

// TestSessionsSayWhoTheyAre is for those who look after the database.
func TestSessionsSayWhoTheyAre(t *testing.T) {
	s, url := fresh(t)
	require.NoError(t, s.Ping(t.Context()))
	database := query[string](t, url, "SELECT current_database()")
	require.Equal(t, 1, query[int](t, url, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'birthday-demo' AND datname = $1", database))
}

// TestPlainPoolers lets the URL say what a pooler between us and the server needs.
func TestPlainPoolers(t *testing.T) {
	_, url := fresh(t)
	s := open(t, url+"&default_query_exec_mode=exec&pool_max_conns=2")
	require.NoError(t, s.PutAll(t.Context(), crowd(10, 1990)))
	require.NoError(t, s.PutAll(t.Context(), crowd(20, 1991)))
	healed(t, s)
	_, err := s.Get(t.Context(), "ana")
	require.NoError(t, err)
	require.EqualValues(t, 2, s.Stats().Max)
}

func TestReadersAreScattered(t *testing.T) {
	config, err := pgx.ParseConfig("postgres://u@one,two:5433,three/people?sslmode=prefer")
	require.NoError(t, err)
	first := map[string]int{}
	for range 300 {
		one := config.Copy()
		postgres.Scatter(one)
		first[one.Host]++
		require.NotNil(t, one.TLSConfig, "it is preferred")
		require.Len(t, one.Fallbacks, 5)
		require.Nil(t, one.Fallbacks[0].TLSConfig)
		require.Equal(t, one.Host, one.Fallbacks[0].Host)
		require.Equal(t, one.Host == "two", one.Port == 5433)
		hosts := map[string]int{one.Host: 1}
		for _, f := range one.Fallbacks {
			hosts[f.Host]++
		}
		require.Equal(t, map[string]int{"one": 2, "two": 2, "three": 2}, hosts)
	}
	require.Len(t, first, 3)
	require.NotContains(t, first, "", "none is left out: %v", first)
}

func TestWhatIsExposed(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, pgtest.WriteAuthority(ca))
	for url, exposed := range map[string]bool{
		"postgres://u@db/people":                                             true,
		"postgres://u@db/people?sslmode=require":                             true,
		"postgres://u@db/people?sslmode=verify-ca&sslrootcert=" + ca:         true,
		"postgres://u@db/people?sslmode=verify-full&sslrootcert=" + ca:       false,
		"postgres://u@localhost,db/people?sslmode=disable":                   true,
		"postgres://u@localhost,[::1]:5433/people?sslmode=disable":           false,
		"postgres:///people?host=/run/postgresql":                            false,
		"postgres://u@db,other/people?sslmode=verify-full&sslrootcert=" + ca: false,
	} {
		is, err := postgres.Exposed(url)
		require.NoError(t, err)
		require.Equal(t, exposed, is, url)
	}
}

// TestAPasswordFileThatIsAPipe has nobody who writes into it.
func TestAPasswordFileThatIsAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	s := openWith(t, "postgres://u@127.0.0.1:1/people", postgres.Options{PasswordFile: path})
	err := s.Ping(t.Context())
	require.ErrorIs(t, err, birthday.ErrUnavailable)
	require.ErrorContains(t, err, path+": it is not a regular file")
}

func TestAnEmptyPasswordFileIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(path, []byte("\n"), 0o600))
	s := openWith(t, "postgres://u@127.0.0.1:1/people", postgres.Options{PasswordFile: path})
	require.ErrorContains(t, s.Ping(t.Context()), "is empty: "+path)
}
