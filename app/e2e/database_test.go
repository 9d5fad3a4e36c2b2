package e2e_test

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

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

// readiness gives what /readyz answers just now; 0 is nothing.
func (s *service) readiness() (status int) {
	c := &client{address: s.internal}
	defer c.close()
	status, _, _ = c.do(http.MethodGet, "/readyz", "") // 0 tells enough
	return status
}

// waitReady waits until /readyz is green, and gives how long that was.
func (s *service) waitReady(t testing.TB) time.Duration {
	t.Helper()
	begin := time.Now()
	for s.readiness() != http.StatusOK {
		require.Less(t, time.Since(begin), patience, s.stderr.String())
		time.Sleep(time.Millisecond)
	}
	return time.Since(begin)
}

// victims are a service and, where it has one, the server of its database. They
// are killed in turn, and started again.
type victims struct {
	launch launch
	store  string         // of the service
	server *pgtest.Server // nil for a file
	args   []string       // more of the service

	service    *service // nil when it was killed
	serverDown bool

	kills, serverKills        int
	slowestStart, slowestHeal time.Duration // of the service: started, and with a server that is back
}

// inFile makes victims with an empty file.
func inFile(t testing.TB) *victims {
	t.Helper()
	return &victims{store: filepath.Join(t.TempDir(), "birthday.db")}
}

// inDatabase makes victims with a new database on a server.
func inDatabase(t testing.TB, server *pgtest.Server) *victims {
	t.Helper()
	return &victims{store: migrated(t, server), server: server}
}

// syncedServer starts a server that syncs to a disk, as in production. It syncs
// the file system before it recovers, not each file: that is ten times as fast.
func syncedServer(t testing.TB) *pgtest.Server {
	t.Helper()
	return pgtest.Start(t, pgtest.Options{Settings: map[string]string{"recovery_init_sync_method": "syncfs"}})
}

// start starts what does not run.
func (v *victims) start(t testing.TB) {
	t.Helper()
	if v.serverDown {
		require.NoError(t, v.server.Start())
		v.serverDown = false
		v.slowestHeal = max(v.slowestHeal, v.service.waitReady(t))
	}
	if v.service == nil {
		v.forget(t)
		begin := time.Now()
		v.service = v.launch.serve(t, v.store, v.args...)
		v.slowestStart = max(v.slowestStart, time.Since(begin))
	}
}

// forget waits until the server has done what a killed service still asked it to:
// such a write is unknown, and may well happen after the service is gone.
func (v *victims) forget(t testing.TB) {
	t.Helper()
	if v.server == nil {
		return
	}
	require.NoError(t, v.server.Exec(t.Context(), "postgres", `DO $$ BEGIN
		WHILE EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'birthday-demo') LOOP
			PERFORM pg_sleep(0.005), pg_stat_clear_snapshot();
		END LOOP; END $$`))
}

// kill kills the next in turn. After its server, a service must go on by itself.
func (v *victims) kill(t testing.TB) {
	t.Helper()
	v.kills++
	if v.server != nil && v.kills%2 == 0 {
		v.serverKills++
		v.serverDown = true
		require.NoError(t, v.server.Kill())
		return
	}
	v.service.kill()
	v.service = nil
}
