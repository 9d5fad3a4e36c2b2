package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/testkit"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(pgtest.M{M: m}, goleak.Cleanup(func(code int) {
		removeBinary()
		os.Exit(code)
	}))
}

// app is a whole program in the test process.
type app struct {
	t                *testing.T
	public, internal string // base URLs
	stdout, stderr   testkit.Output
	cancel           context.CancelFunc
	done             chan error
}

// testWorld is a world of nothing but arguments and variables.
func testWorld(stdout, stderr io.Writer, environ []string, args ...string) world {
	return world{
		args:              append([]string{"app"}, args...),
		environ:           environ,
		stdout:            stdout,
		stderr:            stderr,
		now:               time.Now,
		listen:            func(_, address string) (net.Listener, error) { return net.Listen("tcp", address) },
		notify:            func(string) {},
		ignoreBrokenPipes: func() {},
	}
}

// start serves on free ports and a store in a folder of the test's, and waits
// until it is ready.
func start(t *testing.T, args ...string) *app {
	t.Helper()
	return startWith(t, nil, args...)
}

// startWith lets the test change the world.
func startWith(t *testing.T, change func(*world), args ...string) *app {
	t.Helper()
	a := startUnready(t, change, args...)
	a.untilReady()
	return a
}

// TestTheSameOnPostgreSQL runs the tests of what clients see on the other store.
func TestTheSameOnPostgreSQL(t *testing.T) {
	pgtest.Need(t)
	pattern := "^Test(FromFirstPut|TheStart|Metrics|Settings|Tokens|APublicPort|Stopping|RestartsUnderLoad|Healthcheck|" +
		"RawHTTP|AClientThat|HeadIs|Timeouts|TheDrain|ASilent|AStopping|NothingTells|DataNeeds|DataIsClosed|ADryRun|AnEmpty)"
	require.Contains(t, testkit.Again(t, onPostgreSQL+"=yes", pattern), usesPostgreSQL)
}

// onPostgreSQL is a variable that has the tests use PostgreSQL, and usesPostgreSQL
// is what they then log.
const onPostgreSQL, usesPostgreSQL = "TEST_ON_POSTGRESQL", "people are in PostgreSQL"

// newStore gives the argument that names a new store.
func newStore(t *testing.T) string {
	t.Helper()
	if os.Getenv(onPostgreSQL) == "" {
		return "--store=" + filepath.Join(t.TempDir(), "birthday.db")
	}
	t.Log(usesPostgreSQL)
	return "--store=" + migrated(t)
}

// untilReady waits until readiness is green.
func (a *app) untilReady() {
	a.t.Helper()
	require.Eventually(a.t, func() bool { return a.get(a.internal+"/readyz") == "200 ready\n" }, 10*time.Second, time.Millisecond)
}

// startUnready waits until it serves, be it ready or not.
func startUnready(t *testing.T, change func(*world), args ...string) *app {
	t.Helper()
	a := &app{t: t, done: make(chan error, 1)}
	args = append([]string{"serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-level=debug"}, args...)
	if !strings.Contains(strings.Join(args, " "), "--store") {
		args = append(args, newStore(t))
	}
	w := testWorld(&a.stdout, &a.stderr, nil, args...)
	if change != nil {
		change(&w)
	}
	listen, listeners := w.listen, make(chan net.Listener, 2)
	w.listen = func(port, address string) (net.Listener, error) {
		listener, err := listen(port, address)
		if err == nil {
			listeners <- listener
		}
		return listener, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	go func() { a.done <- run(ctx, w) }()
	for _, url := range []*string{&a.internal, &a.public} { // in the order of starting
		select {
		case listener := <-listeners:
			*url = "http://" + listener.Addr().String()
		case err := <-a.done:
			cancel()
			t.Fatalf("it did not start: %v", err)
		}
	}
	t.Cleanup(func() { a.cancel() })
	require.Eventually(t, func() bool { return a.get(a.internal+"/readyz") != "503 not ready: starting\n" }, 10*time.Second, time.Millisecond)
	return a
}

// stop ends the program as a signal would, and gives its error.
func (a *app) stop() error {
	a.cancel()
	select {
	case err := <-a.done:
		return err
	case <-time.After(30 * time.Second):
		return errors.New("it did not stop in 30 s")
	}
}

// client keeps no connections, which a stopping program would wait for.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}

// call makes a request and gives the status and the body in one text.
func call(method, url, body string, headers ...string) string {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(r)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", response.StatusCode, text)
}

func (a *app) get(url string) string { return call("GET", url, "") }

func (a *app) put(name, date string) string {
	return call("PUT", a.public+"/hello/"+name, `{"dateOfBirth": "`+date+`"}`)
}

// at fixes the clock.
func at(year int, month time.Month, day int) func(*world) {
	return func(w *world) {
		w.now = func() time.Time { return time.Date(year, month, day, 12, 0, 0, 0, time.UTC) }
	}
}

func TestFromFirstPutToShutdown(t *testing.T) {
	store := newStore(t)
	a := startWith(t, at(2026, 5, 16), store)
	require.Equal(t, "204 ", a.put("ana", "1990-05-17"))
	require.Equal(t, `200 {"message":"Hello, ana! Your birthday is in 1 day(s)"}`, a.get(a.public+"/hello/ana"))
	require.Contains(t, a.get(a.internal+"/stats"), `"requests_count":{"success":2,"error":0}`)
	require.Contains(t, a.get(a.internal+"/metrics"), `http_requests_total{method="PUT",route="/hello/{username}",status="204"} 1`)
	require.NoError(t, a.stop())

	a = startWith(t, at(2026, 5, 17), store)
	require.Equal(t, `200 {"message":"Hello, ana! Happy birthday!"}`, a.get(a.public+"/hello/ana"))
	require.NoError(t, a.stop())
}

func TestTheStartIsOneLine(t *testing.T) {
	store := newStore(t)
	a := start(t, "--time-zone=Asia/Tokyo", "--log-level=info", store)
	require.NoError(t, a.stop())
	first, _, _ := strings.Cut(a.stderr.String(), "\n")
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(first), &line))
	require.Equal(t, "serving", line["msg"])
	require.Equal(t, "Asia/Tokyo", line["time_zone"])
	require.Equal(t, strings.Replace(a.internal, "127.0.0.1", "localhost", 1)+"/healthz", line["health"])
	require.Equal(t, strings.Replace(a.public, "127.0.0.1", "localhost", 1), line["public"])
	require.Contains(t, line["store"], filepath.Base(store))
	require.Contains(t, line, "version")
	require.NotContains(t, a.stderr.String(), "curl", "that is for terminals")
	require.Empty(t, a.stdout.String())
}

func TestMetricsAreAsPromised(t *testing.T) {
	a := start(t)
	a.put("ana", "1990-05-17")
	a.put("ana", "bad")
	a.get(a.public + "/hello/bob")
	metrics := a.get(a.internal + "/metrics")
	require.NoError(t, a.stop())
	for _, name := range []string{
		"http_requests_total{", "http_request_duration_seconds_bucket{", "http_requests_in_flight ",
		`birthday_refusals_total{code="INVALID_DATE"} 1`, "birthday_strangers_total 1",
		`birthday_store_seconds_count{op="put",result="ok"} 1`, `birthday_store_seconds_count{op="get",result="not_found"} 1`,
		"birthday_store_bytes 32768", "birthday_log_dropped_total 0", "birthday_build_info{commit=", "go_goroutines ", "process_resident_memory_bytes ",
	} {
		require.Contains(t, metrics, "\n"+name)
	}
}

func TestSettingsReachTheAPI(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(tokens, []byte("the-token"), 0o600))
	a := startWith(t, at(2027, 2, 28),
		"--leap-day=feb28", "--ascii-usernames", "--base-path=/b", "--write-tokens-file="+tokens, "--rate-limit=5",
		"--trusted-proxies=127.0.0.1,10.0.0.0/8")
	from := func(client string) []string {
		return []string{"Authorization", "Bearer the-token", "X-Forwarded-For", client}
	}
	hello := a.public + "/b/hello/"
	require.Equal(t, "204 ", call("PUT", hello+"ana", `{"dateOfBirth":"2000-02-29"}`, from("192.0.2.1")...))
	require.Equal(t, `200 {"message":"Hello, ana! Happy birthday!"}`, call("GET", hello+"ana", "", from("192.0.2.1")...))
	require.Contains(t, call("PUT", hello+"ana", `{"dateOfBirth":"2000-02-29"}`, "X-Forwarded-For", "192.0.2.2"), "401 ")
	require.Contains(t, call("GET", hello+"Jos%C3%A9", "", from("192.0.2.3")...), "INVALID_USERNAME")
	require.Contains(t, call("GET", a.public+"/hello/ana", "", from("192.0.2.4")...), "404 ")
	limited := 0
	for range 20 {
		if strings.HasPrefix(call("GET", hello+"ana", "", from("192.0.2.5")...), "429 ") {
			limited++
		}
	}
	require.Positive(t, limited)
	require.Contains(t, call("GET", hello+"ana", "", from("192.0.2.6")...), "200 ", "another client has its own share")
	require.NoError(t, a.stop())
}

// TestTokensOfAFileStayWhenItIsEmptied changes a file as a command does that fails
// after its shell has emptied the file.
func TestTokensOfAFileStayWhenItIsEmptied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	a := start(t, "--write-tokens-file="+path, "--admin-tokens-file="+path)
	put := func(token string) string {
		return call("PUT", a.public+"/hello/ana", `{"dateOfBirth":"1990-05-17"}`, "Authorization", "Bearer "+token)
	}
	require.Regexp(t, `(?s)birthday_tokens_timestamp_seconds{set="admin"} \d.*birthday_tokens_timestamp_seconds{set="write"} \d`, a.get(a.internal+"/metrics"))
	require.NotContains(t, a.get(a.internal+"/metrics"), `{set="read"}`, "there is no such file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	logged := func(text string) func() bool {
		return func() bool { return strings.Count(a.stderr.String(), text) == 2 } // of two sets
	}
	require.Eventually(t, logged("holds no token"), 10*time.Second, time.Millisecond)
	require.Equal(t, "204 ", put("old"))
	require.NoError(t, os.WriteFile(path, []byte("new"), 0o600))
	require.Eventually(t, logged("read the tokens again"), 10*time.Second, time.Millisecond)
	require.Equal(t, "204 ", put("new"))
	require.Contains(t, put("old"), "401 ")
	require.NoError(t, a.stop())
}

func TestTokensInAVariable(t *testing.T) {
	a := startWith(t, func(w *world) { w.environ = append(w.environ, "BIRTHDAY_WRITE_TOKENS=old\nnew") })
	require.NotContains(t, a.get(a.internal+"/metrics"), "birthday_tokens_timestamp_seconds")
	require.Contains(t, a.put("ana", "1990-05-17"), "401")
	for _, token := range []string{"old", "new"} {
		require.Contains(t, call("PUT", a.public+"/hello/ana", `{"dateOfBirth":"1990-05-17"}`, "Authorization", "Bearer "+token), "204")
	}
	require.NoError(t, a.stop())

	var out testkit.Output
	for text, fault := range map[string]string{"": "it is empty", " \n": "BIRTHDAY_WRITE_TOKENS holds no token", "a b": "BIRTHDAY_WRITE_TOKENS, line 1"} {
		err := run(t.Context(), testWorld(&out, &out, []string{"BIRTHDAY_WRITE_TOKENS=" + text}, "serve", "--store="+t.TempDir()+"/s.db"))
		require.Equal(t, exitUsage, exitCode(err), text)
		require.ErrorContains(t, err, fault)
	}
}

func TestAPublicPortWithoutTokensIsWarnedOf(t *testing.T) {
	var a app
	ctx, cancel := context.WithCancel(t.Context())
	w := testWorld(&a.stdout, &a.stderr, []string{"PORT=0"}, "--admin-listen=127.0.0.1:0", "--store="+filepath.Join(t.TempDir(), "b.db"))
	done := make(chan error, 1)
	go func() { done <- run(ctx, w) }()
	require.Eventually(t, func() bool { return strings.Contains(a.stderr.String(), "set --write-tokens-file") }, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)

	b := start(t)
	require.NoError(t, b.stop())
	require.NotContains(t, b.stderr.String(), "set --write-tokens-file")
}

func TestStoppingTurnsReadinessRedFirst(t *testing.T) {
	a := start(t, "--drain-delay=500ms")
	a.cancel()
	require.Eventually(t, func() bool { return a.get(a.internal+"/readyz") == "503 not ready: stopping\n" }, 5*time.Second, time.Millisecond)
	require.Equal(t, "204 ", a.put("ana", "1990-05-17"), "it serves on until the balancer looks away")
	require.Equal(t, "200 ok\n", a.get(a.internal+"/healthz"))
	require.NoError(t, a.stop())
	require.Contains(t, a.put("ana", "1990-05-17"), "connection refused")
}

// TestRestartsUnderLoad replaces the whole program, store and all, while clients
// write and read on kept connections. The socket is kept, as a supervisor does.
func TestRestartsUnderLoad(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = socket.Close() }()
	keepSocket := func(w *world) {
		w.listen = func(port, address string) (net.Listener, error) {
			if port == "internal" {
				return net.Listen("tcp", address)
			}
			file, err := socket.(*net.TCPListener).File()
			if err != nil {
				return nil, err
			}
			listener, err := net.FileListener(file)
			return listener, errors.Join(err, file.Close())
		}
	}
	store := newStore(t)
	next := func() *app { return startWith(t, keepSocket, "--log-level=warn", store) }

	a := next()
	var stop atomic.Bool
	var good, failed atomic.Int64
	var clients sync.WaitGroup
	for n := range 8 {
		clients.Go(func() {
			c := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
			defer c.CloseIdleConnections()
			url := "http://" + socket.Addr().String() + "/hello/" + string(rune('a'+n))
			for i := 0; !stop.Load(); i++ {
				r, _ := http.NewRequest(http.MethodPut, url, strings.NewReader(`{"dateOfBirth":"1990-05-17"}`))
				if i%2 == 1 {
					r, _ = http.NewRequest(http.MethodGet, url, nil)
				}
				response, err := c.Do(r)
				if err == nil {
					_, err = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
				}
				if err != nil || response.StatusCode >= 300 {
					failed.Add(1)
					t.Logf("failed: %v %v", response, err)
					continue
				}
				good.Add(1)
			}
		})
	}
	for range 10 {
		time.Sleep(30 * time.Millisecond) // under load
		require.NoError(t, a.stop())
		a = next()
	}
	stop.Store(true)
	clients.Wait()
	require.NoError(t, a.stop())
	t.Logf("%d requests", good.Load())
	require.Zero(t, failed.Load())
	require.Greater(t, good.Load(), int64(500))
}

func TestExitCodes(t *testing.T) {
	folder := t.TempDir()
	damaged := filepath.Join(folder, "damaged.db")
	require.NoError(t, os.WriteFile(damaged, []byte("no data base"), 0o600))
	tokens := filepath.Join(folder, "tokens")
	require.NoError(t, os.WriteFile(tokens, nil, 0o600))
	pipe := filepath.Join(folder, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = busy.Close() }()
	store := "--store=" + filepath.Join(folder, "birthday.db")
	tests := []struct {
		what string
		args []string
		code int
		why  string
	}{
		{"help", []string{"--help"}, 0, ""},
		{"version", []string{"--version"}, 0, ""},
		{"an unknown command", []string{"sevre"}, 2, `unknown command "sevre"; did you mean serve?`},
		{"an unknown command, like none", []string{"frobnicate"}, 2, "see app --help"},
		{"an unknown flag", []string{"serve", "--frobnicate"}, 2, "unknown flag: --frobnicate"},
		{"a flag without its value", []string{"--store"}, 2, "flag needs an argument"},
		{"an argument too many", []string{"config", "x"}, 2, `unknown command "x"`},
		{"bad settings", []string{"--leap-day=feb30"}, 2, `leap-day (from flag): "feb30" is neither mar1 nor feb28`},
		{"a tokens file without tokens", []string{"--write-tokens-file=" + tokens}, 2, "holds no token"},
		{"a tokens file that is a pipe", []string{"--read-tokens-file=" + pipe}, 2, pipe + ": it is not a regular file; name one"},
		{"a tokens file that is not there", []string{"--read-tokens-file=/no/such/file"}, 2, "/no/such/file"},
		{"a damaged store", []string{"--store=" + damaged}, 5, "cannot be used"},
		{"a store in no folder", []string{"--store=/no/such/folder/b.db"}, 1, "mkdir -p /no/such/folder"},
		{"a busy port", []string{store, "--admin-listen=127.0.0.1:0", "--listen=" + busy.Addr().String()}, 1, "address already in use; stop what uses it, or name another address with --listen"},
		{"a busy internal port", []string{store, "--admin-listen=" + busy.Addr().String()}, 1, "with --admin-listen"},
		{"health of nobody", []string{"healthcheck", "--admin-listen=127.0.0.1:1"}, 1, "does it run, with this --admin-listen?"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			var out testkit.Output
			err := run(t.Context(), testWorld(&out, &out, nil, tt.args...))
			require.Equal(t, tt.code, exitCode(err), "%v", err)
			if tt.why != "" {
				require.ErrorContains(t, err, tt.why)
			}
		})
	}
	require.Equal(t, 130, exitCode(fmt.Errorf("import: %w", context.Canceled)))
}

func TestALockedStoreIsExitCode4(t *testing.T) {
	store := "--store=" + filepath.Join(t.TempDir(), "birthday.db")
	a := start(t, store)
	var out testkit.Output
	begin := time.Now()
	err := run(t.Context(), testWorld(&out, &out, nil, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", store))
	require.Equal(t, 4, exitCode(err))
	require.ErrorContains(t, err, "in use by another process")
	require.InDelta(t, 5, time.Since(begin).Seconds(), 1)
	require.NoError(t, a.stop())
}

func TestHealthcheck(t *testing.T) {
	a := start(t)
	admin := "--admin-listen=" + strings.TrimPrefix(a.internal, "http://")
	for _, args := range [][]string{{"healthcheck", admin}, {"healthcheck", "--ready", admin}} {
		var out testkit.Output
		require.NoError(t, run(t.Context(), testWorld(&out, &out, nil, args...)))
		require.Contains(t, []string{"ok\n", "ready\n"}, out.String())
	}
	require.NoError(t, a.stop())
	require.Equal(t, "localhost:8081", dialable(":8081"))
	require.Equal(t, "localhost:8081", dialable("[::]:8081"))
	require.Equal(t, "localhost:8081", dialable("0.0.0.0:8081"))
	require.Equal(t, "10.0.0.1:8081", dialable("10.0.0.1:8081"))
}
