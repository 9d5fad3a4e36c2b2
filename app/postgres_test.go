package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/testkit"
)

// migrated gives the URL of a new database with a schema.
func migrated(t *testing.T) string {
	t.Helper()
	url := pgtest.Empty(t)
	_, messages, code := command(t, "", "migrate", "up", "--quiet", "--store="+url)
	require.Zero(t, code, messages)
	return url
}

func TestMigrate(t *testing.T) {
	store := "--store=" + pgtest.Empty(t)
	for _, tt := range []struct {
		args             []string
		code             int
		stdout, messages string
	}{
		{[]string{"status"}, 6, "", "the schema is at version 0, and this program needs 2; missing: 00001_people, 00002_birth_dates\n" +
			"error: the schema of the database is at version 0, and this program needs 2: run `migrate up`"},
		{[]string{"up"}, 0, "", "the schema is at version 2, and this program needs 2\n"},
		{[]string{"up", "--json", "-q"}, 0, `{"have":2,"want":2,"pending":[]}` + "\n", ""},
		{[]string{"status"}, 0, "", "the schema is at version 2, and this program needs 2\n"},
	} {
		stdout, messages, code := command(t, "", append(append([]string{"migrate"}, tt.args...), store)...)
		require.Equal(t, tt.code, code, messages)
		require.Equal(t, tt.stdout, stdout)
		require.Equal(t, tt.messages, messages)
	}
	for args, fault := range map[string]string{
		"migrate":                            "say up or status",
		"migrate down":                       `say up or status, not "down"`,
		"migrate up people.db":               "unknown command",
		"migrate up --store=people.db":       "a bbolt file has no schema",
		"compact " + store:                   "compact is for a bbolt file",
		"serve --backup-dir=copies " + store: "scheduled copies are of a bbolt file",
	} {
		_, messages, code := command(t, "", strings.Fields(args)...)
		require.Equal(t, exitUsage, code, args)
		require.Contains(t, messages, fault)
	}
}

// TestADatabaseThatIsBehind starts before the migration: what needs the schema
// says so, and the service goes on by itself when it is there.
func TestADatabaseThatIsBehind(t *testing.T) {
	store := "--store=" + pgtest.Empty(t)
	for _, args := range [][]string{{"export"}, {"import"}, {"check"}} {
		stdout, messages, code := command(t, threePeople, append(args, store)...)
		require.Equal(t, exitSchema, code, messages)
		require.Contains(t, stdout+messages, "run `migrate up`")
	}
	a := startUnready(t, nil, store)
	require.Equal(t, "503 not ready: ping store: the schema of the database is at version 0, and this program needs 2: run `migrate up`\n",
		a.get(a.internal+"/readyz"))
	require.Contains(t, a.put("ana", "1990-05-17"), "503 ")
	require.Equal(t, "200 ok\n", a.get(a.internal+"/healthz"))
	_, messages, code := command(t, "", "migrate", "up", store)
	require.Zero(t, code, messages)
	a.untilReady()
	require.Equal(t, "204 ", a.put("ana", "1990-05-17"))
	require.NoError(t, a.stop())
	require.Equal(t, 1, strings.Count(a.stderr.String(), "not ready: the store does not work"), "it is said once")
	require.Equal(t, 1, strings.Count(a.stderr.String(), "ready: the store works again"))
}

// TestADatabaseInAnotherEncoding is refused by commands and readiness with what to do,
// and the log says nothing of names.
func TestADatabaseInAnotherEncoding(t *testing.T) {
	server := pgtest.Shared(t)
	require.NoError(t, server.Exec(t.Context(), "postgres", "CREATE DATABASE in_euc_jp ENCODING 'EUC_JP' TEMPLATE template0"))
	store := "--store=" + server.URL("in_euc_jp")
	const fault, remedy = "the database keeps text as EUC_JP", "make a new one WITH ENCODING 'UTF8' TEMPLATE template0"
	for _, args := range [][]string{{"migrate", "up"}, {"export"}, {"import"}, {"check"}} {
		stdout, messages, code := command(t, threePeople, append(args, store)...)
		require.Equal(t, exitFailure, code, messages)
		require.Contains(t, stdout+messages, fault)
		require.Contains(t, stdout+messages, remedy)
	}
	a := startUnready(t, nil, store)
	require.Contains(t, a.get(a.internal+"/readyz"), remedy)
	require.Contains(t, a.put("%C3%81na", "1990-05-17"), "503 ")
	require.Contains(t, a.get(a.public+"/hello/%C3%81na"), "503 ")
	require.NoError(t, a.stop())
	require.Contains(t, a.stderr.String(), fault)
	require.NotContains(t, a.stderr.String(), "0x")
}

// TestRowsPutInByHand has rows in a database that the table would refuse by now, and
// does with them what there is to do.
func TestRowsPutInByHand(t *testing.T) {
	testkit.Needs(t, "pg_dump", "postgresql-client")
	server := pgtest.Shared(t)
	database, err := server.Database(t.Context())
	require.NoError(t, err)
	store := "--store=" + server.URL(database)
	migrate := func() {
		_, messages, code := command(t, "", "migrate", "up", store)
		require.Zero(t, code, messages)
	}
	migrate()
	require.NoError(t, server.Exec(t.Context(), database, `ALTER TABLE people DROP CONSTRAINT people_birth_date_is_a_day;
		DELETE FROM goose_db_version WHERE version_id = 2;
		INSERT INTO people VALUES ('aaron', '1990-05-17'), ('kanarienhahn', '12345-06-07'), ('kanarienvogel', 'infinity'), ('zoe', '1990-05-17')`))
	migrate()
	const others = `{"username": "aaron", "dateOfBirth": "1990-05-17"}` + "\n" + `{"username": "zoe", "dateOfBirth": "1990-05-17"}` + "\n"
	const leftOut = "people whose birth date is no day from 0001-01-01 to 9999-12-31 are left out: 2; "
	path := filepath.Join(t.TempDir(), "people.jsonl")
	a := start(t, store)
	defer func() { require.NoError(t, a.stop()) }()

	stdout, messages, code := command(t, "", "export", store)
	require.Equal(t, exitPartial, code)
	require.Equal(t, others, stdout)
	require.Contains(t, messages, "export to -: "+leftOut+"the first of their places in the order of names: 2 3; `check` ")
	_, messages, code = command(t, "", "export", path, store)
	require.Equal(t, exitPartial, code, messages)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, others, string(text))
	stdout, remote, code := command(t, "", "export", "--admin="+a.internal)
	require.Equal(t, exitPartial, code)
	require.Equal(t, others, stdout)
	require.Contains(t, remote, "export to -: "+leftOut)

	response, err := client.Get(a.internal + "/export")
	require.NoError(t, err)
	text, err = io.ReadAll(response.Body)
	require.NoError(t, errors.Join(err, response.Body.Close()))
	require.Equal(t, others, string(text))
	require.Equal(t, "2", response.Trailer.Get("X-Left-Out"))
	require.Equal(t, 2, strings.Count(a.stderr.String(), `"level":"ERROR","msg":"an export is not whole","error":"`+leftOut), a.stderr.String())

	require.Contains(t, a.get(a.public+"/hello/kanarienvogel"), "500 ")
	require.Contains(t, a.get(a.public+"/hello/zoe"), "200 ")
	report, code := check(t, store, "--admin-listen="+a.internal[len("http://"):])
	require.Zero(t, code, report)
	require.Contains(t, report, "\nwarn   store      people whose birth date is no day from 0001-01-01 to 9999-12-31: 2. ")

	dump := filepath.Join(t.TempDir(), "people.dump")
	_, messages, code = command(t, "", "backup", dump, store)
	require.Zero(t, code, messages)
	_, restored, code := command(t, "", "restore", "--force", dump, store)
	require.Equal(t, exitPartial, code)
	require.Contains(t, restored, ", people: 2\n")
	require.Contains(t, restored, leftOut)
	stdout, messages, code = command(t, "", "export", "--admin="+a.internal)
	require.Zero(t, code, messages)
	require.Equal(t, others, stdout)
	for _, told := range []string{a.stderr.String(), report, messages, remote, restored} {
		require.NotContains(t, told, "kanarien")
		require.NotContains(t, told, "12345")
		require.NotContains(t, told, "infinity")
	}
}

// TestADatabaseThatIsAway starts, and stops, without one.
func TestADatabaseThatIsAway(t *testing.T) {
	pgtest.Need(t)
	away, err := pgtest.NewProxy("127.0.0.1:1")
	require.NoError(t, err)
	require.NoError(t, away.Close())
	store := "--store=postgres://u:canary@" + away.Address + "/people"
	a := startUnready(t, nil, store)
	require.Contains(t, a.get(a.internal+"/readyz"), "503 not ready: ping store: the store is unavailable for now")
	for _, url := range []string{a.public + "/hello/ana", a.internal + "/export"} {
		response, err := client.Get(url)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusServiceUnavailable, response.StatusCode, url)
		require.Equal(t, "1", response.Header.Get("Retry-After"), url)
	}
	require.Equal(t, "503 the store cannot do this just now; try again in a moment\n", call("POST", a.internal+"/import", threePeople))
	require.Contains(t, a.get(a.internal+"/metrics"), "\nbirthday_store_bytes -1\n")
	require.NoError(t, a.stop())
	require.NotContains(t, a.stderr.String(), "canary")
	for _, command := range []string{"export", "import", "check", "backup -", "migrate status"} {
		var out testkit.Output
		w := testWorld(&out, &out, nil, append(strings.Fields(command), store)...)
		w.stdin = strings.NewReader(threePeople)
		err := run(t.Context(), w)
		require.Equal(t, exitFailure, exitCode(err), command)
		_, port, _ := strings.Cut(away.Address, ":")
		require.Contains(t, fmt.Sprint(out.String(), err), port, command)
		require.NotContains(t, fmt.Sprint(out.String(), err), "canary", command)
	}
}

func TestServeAsARoleThatMayOnlyServe(t *testing.T) {
	server := pgtest.Shared(t)
	database, err := server.Database(t.Context())
	require.NoError(t, err)
	_, messages, code := command(t, "", "migrate", "up", "--store="+server.URL(database), "--app-user=server", "--app-password=canary")
	require.Zero(t, code, messages)
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("canary\n"), 0o600))
	store := []string{"--store=" + server.URLOf(database, "server", "changed since"), "--store-password-file=" + password}
	a := start(t, store...)
	require.Equal(t, "204 ", a.put("ana", "1990-05-17"))
	report, code := check(t, append(store, "--admin-listen="+a.internal[len("http://"):])...)
	require.Zero(t, code, report)
	require.Contains(t, report, "as server, takes reads and writes\n")
	require.NoError(t, a.stop())
	require.Error(t, server.Exec(t.Context(), database, "SET ROLE server; DROP TABLE people"))
	require.NotContains(t, a.stderr.String()+report, "canary")
}

// TestAsTheTasksOnAWS has the variables of devops/cloudformation/birthday-demo.yml:
// the migration gets the master user beside a URL without one.
func TestAsTheTasksOnAWS(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{TLS: true, Settings: map[string]string{"fsync": "off"}})
	master, err := url.Parse(server.URL("postgres"))
	require.NoError(t, err)
	password, _ := master.User.Password()
	t.Setenv("PGUSER", master.User.Username())
	t.Setenv("PGPASSWORD", password)
	var out testkit.Output
	address := server.Address + "/postgres?sslmode=verify-full&sslrootcert=" + server.CA
	err = run(t.Context(), testWorld(&out, &out, []string{
		"BIRTHDAY_STORE=postgres://" + address, "BIRTHDAY_APP_USER=birthday_demo", "BIRTHDAY_APP_PASSWORD=canary", "BIRTHDAY_LOG_FORMAT=json",
	}, "migrate", "up"))
	require.NoError(t, err, out.String())

	require.NoError(t, os.Unsetenv("PGUSER"))
	t.Setenv("PGPASSWORD", "canary")
	a := start(t, "--store=postgres://birthday_demo@"+address+"&pool_max_conns=10&pool_max_conn_idle_time=5m")
	require.Equal(t, "204 ", a.put("ana", "1990-05-17"))
	require.NoError(t, a.stop())
	require.NotContains(t, a.stderr.String()+out.String(), "canary")
}

func TestCheckTellsWhatADatabasePromises(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"synchronous_standby_names": "standby"}})
	for options, promise := range map[string]string{
		"":                                 "ok     promise    a 204 is on the disk of the server and with a standby",
		"&synchronous_commit=local":        "warn   promise    a 204 is synced to the server's disk before it is sent, and survives its crash; a failover",
		"&synchronous_commit=off":          "warn   promise    a 204 may be lost when the server crashes",
		"&synchronous_commit=remote_write": "ok     promise    ",
	} {
		report, code := check(t, "--store="+server.URL("postgres")+options)
		require.Equal(t, exitSchema, code, report)
		require.Contains(t, report, promise)
	}
	report, code := check(t, "--store="+migrated(t)) // without standbys, and without fsync
	require.Zero(t, code, report)
	require.Contains(t, report, "fsync = off; turn both on")
}

func TestCheckTellsOfReplicas(t *testing.T) {
	store := migrated(t)
	report, code := check(t, "--store="+store, "--read-store="+store)
	require.Zero(t, code, report)
	require.Regexp(t, `\nok     replicas   postgres://postgres:xxxxx@\S+ can be read; what is read there may be behind\n`, report)
	report, code = check(t, "--store="+store, "--read-store=postgres://u:canary@127.0.0.1:1/people")
	require.Zero(t, code, "the primary answers: %s", report)
	require.Contains(t, report, "\nwarn   replicas   postgres://u:xxxxx@127.0.0.1:1/people: ")
	require.NotContains(t, report, "canary")
}

// TestAnImportThatBreaksOffSaysWhatIsKept has a database that refuses the last
// people.
func TestAnImportThatBreaksOffSaysWhatIsKept(t *testing.T) {
	server := pgtest.Shared(t)
	database, err := server.Database(t.Context())
	require.NoError(t, err)
	store := "--store=" + server.URL(database)
	_, messages, code := command(t, "", "migrate", "up", store)
	require.Zero(t, code, messages)
	require.NoError(t, server.Exec(t.Context(), database, "ALTER TABLE people ADD CHECK (username < 'z')"))
	var lines strings.Builder
	lines.WriteString("username,dateOfBirth\nzoe,1990-05-17\n")
	for i := range commandImport(&settings{Store: server.URL(database)}).committed {
		fmt.Fprintf(&lines, "a%s,1990-05-17\n", strings.Map(func(r rune) rune { return r - '0' + 'a' }, fmt.Sprint(i)))
	}
	_, messages, code = command(t, lines.String(), "import", store)
	require.Equal(t, exitFailure, code)
	require.Contains(t, messages, "people who are kept already: 25000; import again when this is mended: ")
	require.Contains(t, messages, "taken: 25000, refused: 0")
}

func TestMovingOverToADatabaseAndBack(t *testing.T) {
	file, database := "--store="+filepath.Join(t.TempDir(), "birthday.db"), "--store="+migrated(t)
	_, messages, code := command(t, threePeople, "import", file)
	require.Zero(t, code, messages)
	exported, messages, code := command(t, "", "export", file)
	require.Zero(t, code, messages)
	for range 2 { // the second changes nothing
		_, messages, code = command(t, exported, "import", database)
		require.Zero(t, code, messages)
		require.Equal(t, "taken: 3, refused: 0\n", messages)
	}
	a := start(t, database)
	require.Contains(t, a.get(a.public+"/hello/%C3%81na"), "200 ")
	require.Equal(t, "200 "+threePeople, a.get(a.internal+"/export"))
	require.Contains(t, call("POST", a.internal+"/import", `{"username": "cyd", "dateOfBirth": "1990-05-17"}`), `{"taken":1,`)
	require.Equal(t, "204 ", call("DELETE", a.public+"/hello/cyd", ""))
	require.NoError(t, a.stop())
	back, messages, code := command(t, "", "export", database)
	require.Zero(t, code, messages)
	require.Equal(t, exported, back)
	file = "--store=" + filepath.Join(t.TempDir(), "birthday.db")
	_, messages, code = command(t, back, "import", file)
	require.Zero(t, code, messages)
	again, _, _ := command(t, "", "export", file)
	require.Equal(t, exported, again)
}

func TestBackupAndRestoreADatabase(t *testing.T) {
	testkit.Needs(t, "pg_dump", "postgresql-client")
	path := filepath.Join(t.TempDir(), "people.dump")
	store := "--store=" + migrated(t)
	a := start(t, store)
	require.Equal(t, "204 ", a.put("ana", "1990-05-17"))
	stdout, messages, code := command(t, "", "backup", "--json", "--quiet", path, store)
	require.Zero(t, code, messages)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	require.Equal(t, fmt.Sprintf(`{"people":1,"bytes":%d}`+"\n", info.Size()), stdout)

	require.Equal(t, "204 ", a.put("bob", "1990-05-17"))
	_, messages, code = command(t, "", "restore", path, store)
	require.Equal(t, exitFailure, code)
	require.Contains(t, messages, "the database holds people; use --force to replace them")
	_, messages, code = command(t, "", "restore", "--force", path, store)
	require.Zero(t, code, messages)
	require.Regexp(t, `^restored postgres://postgres:xxxxx@\S+: \d+ bytes, people: 1\n$`, messages)
	require.Contains(t, a.get(a.public+"/hello/ana"), "200 ", "while the service goes on")
	require.Contains(t, a.get(a.public+"/hello/bob"), "404 ")

	_, messages, code = command(t, "", "backup", path, "--admin="+a.internal)
	require.Equal(t, exitFailure, code)
	require.Contains(t, messages, "people are in a PostgreSQL database: copy that")
	require.NoError(t, a.stop())

	t.Setenv("PATH", t.TempDir())
	for _, args := range [][]string{{"backup", path, store}, {"restore", "--force", path, store}} {
		_, messages, code := command(t, "", args...)
		require.Equal(t, exitFailure, code)
		require.Contains(t, messages, "install PostgreSQL's client programs")
	}
	require.FileExists(t, path)
}

func TestMetricsOfADatabase(t *testing.T) {
	a := start(t, "--store="+migrated(t)+"&pool_max_conns=7")
	a.put("ana", "1990-05-17")
	metrics := a.get(a.internal + "/metrics")
	require.NoError(t, a.stop())
	for _, line := range []string{
		`birthday_store_connections{servers="primary",state="busy"} `, `birthday_store_connections{servers="primary",state="idle"} `,
		`birthday_store_connections_max{servers="primary"} 7` + "\n", `birthday_store_connects_total{servers="primary"} `,
		`birthday_store_dropped_total{servers="primary"} 0` + "\n", `birthday_store_waits_total{servers="primary"} `,
		`birthday_store_wait_seconds_total{servers="primary"} `, `birthday_store_retries_total{servers="primary"} 0` + "\n",
		`birthday_store_puts_total{servers="primary"} 1` + "\n", `birthday_store_put_statements_total{servers="primary"} 1` + "\n",
		"birthday_store_bytes 32768\n",
	} {
		require.Contains(t, metrics, "\n"+line)
	}
}

// TestNobodyWaitsForADatabaseThatIsSilent has one that takes connections and says
// nothing.
func TestNobodyWaitsForADatabaseThatIsSilent(t *testing.T) {
	pgtest.Need(t)
	silent, err := pgtest.NewProxy("127.0.0.1:1")
	require.NoError(t, err)
	silent.Freeze()
	defer func() { require.NoError(t, silent.Close()) }()
	begin := time.Now()
	a := startUnready(t, nil, "--store=postgres://u@"+silent.Address+"/people")
	require.Contains(t, a.get(a.internal+"/readyz"), "503 not ready: ")
	require.Less(t, time.Since(begin), 8*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var out testkit.Output
	err = run(ctx, testWorld(&out, &out, nil, "export", "--store=postgres://u@"+silent.Address+"/people"))
	require.Error(t, err)
	require.NoError(t, a.stop())
}

// TestAHalfClosedReadOfAReplica is answered, be it the replica or the primary that
// reads.
func TestAHalfClosedReadOfAReplica(t *testing.T) {
	store := migrated(t)
	for _, replicas := range []string{store, "postgres://u@127.0.0.1:1/people"} {
		a := start(t, "--store="+store, "--read-store="+replicas)
		requireAnswersToHalfClosed(t, a)
		require.NoError(t, a.stop())
	}
}

// TestReadsOfReplicas has a standby that is cut off from its primary and so behind,
// then one that is silent, then one that is gone.
func TestReadsOfReplicas(t *testing.T) {
	primary := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	database, err := primary.Database(t.Context())
	require.NoError(t, err)
	_, messages, code := command(t, "", "migrate", "up", "--store="+primary.URL(database))
	require.Zero(t, code, messages)
	standby, err := primary.Standby(t.Context(), false)
	require.NoError(t, err)
	defer func() { require.NoError(t, standby.Close()) }()
	network, err := pgtest.NewProxy(standby.Address)
	require.NoError(t, err)
	defer func() { require.NoError(t, network.Close()) }()
	replicas := strings.Replace(standby.URL(database), standby.Address, network.Address, 1)
	a := start(t, "--store="+primary.URL(database), "--read-store="+replicas)

	seen := func(name string) bool { return strings.HasPrefix(a.get(a.public+"/hello/"+name), "200 ") }
	var behind []time.Duration
	for n := range 100 {
		name := "a" + strings.Repeat("n", n%60) + strings.Repeat("a", n/60)
		require.Equal(t, "204 ", a.put(name, "1990-05-17"))
		begin := time.Now()
		for !seen(name) {
			require.Less(t, time.Since(begin), 10*time.Second)
		}
		behind = append(behind, time.Since(begin))
	}
	slices.Sort(behind)
	t.Logf("a replica is behind by %s, at most %s, the request included", behind[len(behind)/2], behind[len(behind)-1])
	require.Equal(t, "204 ", a.put("ana", "1990-05-17"))
	require.Eventually(t, func() bool { return seen("ana") }, 10*time.Second, time.Millisecond)
	require.Contains(t, a.get(a.internal+"/metrics"), `birthday_store_connections{servers="replicas",state="idle"} 1`)

	require.NoError(t, standby.Exec(t.Context(), database, "SELECT pg_wal_replay_pause()"))
	require.Equal(t, "204 ", a.put("bob", "1990-05-17"))
	require.False(t, seen("bob"), "it reads from the replica")
	network.Freeze()
	begin := time.Now()
	require.True(t, seen("bob"), "the primary answers when no replica does")
	require.Less(t, time.Since(begin), 3*time.Second)
	begin = time.Now()
	require.True(t, seen("ana"))
	require.Less(t, time.Since(begin), 500*time.Millisecond, "nobody waits for them again just now")
	network.Thaw()
	require.Equal(t, "200 ready\n", a.get(a.internal+"/readyz"), "replicas do not count")
	require.NoError(t, a.stop())
}
