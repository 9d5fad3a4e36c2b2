package postgres_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"birthday-demo/app/store/postgres"
	"birthday-demo/app/store/postgres/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

// empty makes a database without a schema on a server, and gives its name.
func empty(t testing.TB, server *pgtest.Server) string {
	t.Helper()
	name, err := server.Database(context.Background())
	require.NoError(t, err)
	return name
}

// migrated makes a database with a schema on a server, and gives its name.
func migrated(t testing.TB, server *pgtest.Server) string {
	t.Helper()
	name := empty(t, server)
	_, err := postgres.Migrate(context.Background(), server.URL(name), postgres.Options{}, postgres.Role{})
	require.NoError(t, err)
	return name
}

// open opens the store that a URL names.
func open(t testing.TB, url string) *postgres.Store {
	t.Helper()
	return openWith(t, url, postgres.Options{})
}

func openWith(t testing.TB, url string, o postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(context.Background(), url, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// fresh opens a new, empty store on the shared server.
func fresh(t testing.TB) (s *postgres.Store, url string) {
	t.Helper()
	server := pgtest.Shared(t)
	url = server.URL(migrated(t, server))
	return open(t, url), url
}
