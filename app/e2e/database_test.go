package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/postgres/pgtest"
)

// migrated makes a database on a server, has the program make its schema there,
// and gives its URL.
func migrated(t testing.TB, server *pgtest.Server) (url string) {
	t.Helper()
	name, err := server.Database(t.Context())
	require.NoError(t, err)
	url = server.URL(name)
	_, stderr, code := run(t, "migrate", "up", "--store="+url)
	require.Zero(t, code, stderr)
	return url
}
