package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/postgres/pgtest"
)

// TestUpgradeAndBackFailNobody goes from a release to the next and back, under
// load, behind a balancer, while somebody exports everyone and reads slowly. The release is the program as it is. The next one has
// one step of the schema more.
func TestUpgradeAndBackFailNobody(t *testing.T) {
	needBalancer(t)
	server := pgtest.Shared(t)
	next := nextRelease(t)
	up := upgradeRun{step: "ALTER TABLE people ADD COLUMN note text NOT NULL DEFAULT 'none'", between: size(1_000, 20_000)}
	up.run(t, migrated(t, server), next)
	require.Empty(t, up.failed)
	require.Empty(t, up.lost)

	contracting := []struct{ name, step string }{
		{"a step that renames a column", "ALTER TABLE people RENAME COLUMN date_of_birth TO born"},
		{
			"one that adds a column that must be given",
			"ALTER TABLE people ADD COLUMN note text NOT NULL DEFAULT ''; ALTER TABLE people ALTER COLUMN note DROP DEFAULT",
		},
	}[:size(1, 2)]
	var faults []string
	caught := 0
	for _, c := range contracting {
		planted := upgradeRun{step: c.step, contracts: true}
		planted.run(t, migrated(t, server), next)
		require.NotEmpty(t, planted.failed, c.name)
		t.Logf("%s: %d failed; the first: %s", c.name, len(planted.failed), planted.failed[0])
		faults = append(faults, c.name)
		caught++
	}

	proof{
		Proof: "upgrade",
		Figures: map[string]any{
			"requests": len(up.times), "failed": len(up.failed), "lost": len(up.lost), "migrations_at_once": migrationsAtOnce,
			"migration_ms": up.migration.Milliseconds(), "replacements": up.replaced,
			"slowest_ms": milliseconds(up.times[len(up.times)-1]), "p99_ms": milliseconds(quantile(up.times, .99)),
		},
		Planted: strings.Join(faults, "; "),
		Caught:  caught == len(contracting),
	}.keep(t)
}

const (
	migrationsAtOnce = 4

	nextVersion = 99999 // so that real steps come before

	// What the step does is a setting of the database, so that one build does
	// for all runs.
	stepSetting = "proof.step"
	nextStep    = `-- +goose Up
-- +goose StatementBegin
DO $$ BEGIN EXECUTE current_setting('` + stepSetting + `'); END $$;
-- +goose StatementEnd
`
)

// nextRelease builds the program with one step more.
func nextRelease(t *testing.T) launch {
	t.Helper()
	folder := t.TempDir()
	step, overlay, path := filepath.Join(folder, "step.sql"), filepath.Join(folder, "overlay.json"), filepath.Join(folder, "birthday-demo")
	require.NoError(t, os.WriteFile(step, []byte(nextStep), 0o600))
	name, err := filepath.Abs(fmt.Sprintf("../store/postgres/migrations/%d_next.sql", nextVersion))
	require.NoError(t, err)
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{name: step}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, text, 0o600))
	build := exec.Command("go", "build", "-overlay", overlay, "-o", path, "./app")
	build.Dir = "../.."
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return launch{program: path}
}

// upgradeRun migrates a database under load and has the next release serve from
// it, then the release before again. A step that contracts must be noticed at
// once: the rest is left out.
type upgradeRun struct {
	step      string
	contracts bool
	between   int // answers, with each of the releases alone

	migration    time.Duration
	replaced     int
	times        []time.Duration // of good answers, sorted
	failed, lost []string
}

func (u *upgradeRun) run(t *testing.T, store string, next launch) {
	t.Helper()
	setInDatabase(t, store, stepSetting, u.step)
	f := newFleet(t, store)
	f.add(t, launch{})
	f.add(t, launch{})
	load := startUsers(f.address, 8)
	defer load.end()
	u.wait(t, load, u.between)

	early := f.start(t, next)
	requireBehind(t, early, next, store)
	u.migrate(t, load, next, store)
	if u.contracts {
		u.wait(t, load, 1_000_000)
	} else {
		f.admit(t, early) // by itself
		f.leave(t, syscall.SIGTERM)
		u.replace(t, f, next) // the other replica
		u.wait(t, load, u.between)
		u.replace(t, f, launch{})
		u.replace(t, f, launch{})
		u.wait(t, load, u.between)
		_, stderr, code := run(t, "migrate", "status", "--store="+store)
		require.Zero(t, code, stderr)
	}
	u.times, u.failed = load.end()
	if u.contracts {
		return
	}
	people := f.everyone(t)
	u.lost = load.lost(people)
	require.Equal(t, len(people), query[int](t, store, "SELECT count(*) FROM people WHERE note = 'none'"))
	f.stop(t)
}

// wait lets the load go on for so many good answers, or until one failed.
func (u *upgradeRun) wait(t *testing.T, load *users, answers int) {
	t.Helper()
	enough := load.answers() + answers
	require.True(t, eventually(time.Minute, func() bool { return load.answers() >= enough || load.failures() > 0 }))
}

// replace puts a new replica in the place of the oldest.
func (u *upgradeRun) replace(t *testing.T, f *fleet, l launch) {
	t.Helper()
	f.add(t, l)
	f.leave(t, syscall.SIGTERM)
	u.replaced++
}

// requireBehind wants the next release to see that the schema is not yet its own.
func requireBehind(t *testing.T, r replica, next launch, store string) {
	t.Helper()
	c := &client{address: r.internal}
	defer c.close()
	status, text, err := c.do(http.MethodGet, "/readyz", "")
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, "run `migrate up`")
	_, stderr, code := next.run(t, "migrate", "status", "--store="+store)
	require.Equal(t, 6, code, stderr)
}

// migrate runs several migrations at once, as replicas do that bring their own. The
// step has to wait for an export that has begun before: its reader goes on as soon as
// the load had so many more answers.
func (u *upgradeRun) migrate(t *testing.T, load *users, next launch, store string) {
	t.Helper()
	reader, err := pgx.Connect(t.Context(), store)
	require.NoError(t, err)
	_, err = reader.Exec(t.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM people LIMIT 1")
	require.NoError(t, err)
	begin := time.Now()
	var codes [migrationsAtOnce]int
	var texts [migrationsAtOnce]string
	var migrating sync.WaitGroup
	for i := range codes {
		migrating.Go(func() { _, texts[i], codes[i] = next.run(t, "migrate", "up", "--store="+store) })
	}
	require.True(t, eventually(time.Minute, func() bool {
		return query[bool](t, store, "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'people'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted)")
	}))
	u.wait(t, load, u.between)
	require.NoError(t, reader.Close(t.Context()))
	migrating.Wait()
	u.migration = time.Since(begin)
	require.Equal(t, [migrationsAtOnce]int{}, codes, strings.Join(texts[:], "\n"))
	require.Equal(t, 1, query[int](t, store, "SELECT count(*) FROM goose_db_version WHERE version_id = $1", nextVersion))
}
