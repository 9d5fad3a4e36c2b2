package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"birthday-demo/app/admin"
	"birthday-demo/app/httpd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func well(context.Context) error { return nil }

func unheard(error) {}

// port makes an internal port that is ready; change may set other things.
func port(change ...func(*admin.Config)) http.Handler {
	c := admin.Config{
		Ready:    admin.NewReadiness(well, unheard),
		Registry: prometheus.NewRegistry(),
		Stats:    httpd.NewStats(),
		Version:  map[string]string{"version": "1.2.3"},
		Loopback: true,
		HTTP:     httpd.Config{Log: slog.New(slog.DiscardHandler), StallTimeout: time.Second},
	}
	c.Ready.Up()
	for _, f := range change {
		f(&c)
	}
	return admin.New(c)
}

func ask(h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	r, w := httptest.NewRequest(method, path, nil), httptest.NewRecorder()
	r.Host = "localhost:8081"
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	h.ServeHTTP(w, r)
	return w
}

func TestHealthNeverTouchesTheStore(t *testing.T) {
	h := port(func(c *admin.Config) {
		c.Ready = admin.NewReadiness(func(context.Context) error { panic("touched") }, unheard)
	})
	w := ask(h, "GET", "/healthz")
	require.Equal(t, 200, w.Code)
	require.Equal(t, "ok\n", w.Body.String())
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var trouble error
		pings := 0
		ready := admin.NewReadiness(func(context.Context) error { pings++; return trouble }, unheard)
		h := port(func(c *admin.Config) { c.Ready = ready })
		requireAnswer := func(status int, text string) {
			t.Helper()
			w := ask(h, "GET", "/readyz")
			require.Equal(t, status, w.Code)
			require.Equal(t, text+"\n", w.Body.String())
		}
		requireAnswer(503, "not ready: starting")
		ready.Up()
		requireAnswer(200, "ready")
		trouble = errors.New("no space left on device")
		requireAnswer(200, "ready")
		require.Equal(t, 1, pings, "the store is asked once a second at most")
		time.Sleep(time.Second)
		requireAnswer(503, "not ready: no space left on device")
		trouble = nil
		time.Sleep(time.Second)
		requireAnswer(200, "ready")
		ready.Down("stopping")
		requireAnswer(503, "not ready: stopping")
	})
}

func TestAProberThatLeavesSpoilsNothing(t *testing.T) {
	ready := admin.NewReadiness(func(ctx context.Context) error { return ctx.Err() }, unheard)
	ready.Up()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, ready.Check(ctx))
}

func TestAStoreThatHangsIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ready *admin.Readiness
		h := port(func(c *admin.Config) {
			c.Ready = admin.NewReadiness(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, unheard)
			c.Ready.Up()
			ready = c.Ready
		})
		go func() { ask(h, "GET", "/readyz") }()
		synctest.Wait()
		begin := time.Now()
		ready.Down("stopping")
		require.Zero(t, time.Since(begin), "a probe that hangs keeps nobody from stopping")
		ready.Up()
		time.Sleep(time.Minute) // a probe that waits for another's does not count as waiting here
		require.Equal(t, 503, ask(h, "GET", "/readyz").Code)
		time.Sleep(time.Minute) // until the ping has given up
	})
}

func TestMetrics(t *testing.T) {
	h := port(func(c *admin.Config) { c.Registry.MustRegister(collectors.NewGoCollector()) })
	w := ask(h, "GET", "/metrics")
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Body.String(), "go_goroutines ")
}

func TestStatsAndVersion(t *testing.T) {
	h := port()
	var stats, version map[string]any
	require.NoError(t, json.Unmarshal(ask(h, "GET", "/stats").Body.Bytes(), &stats))
	require.Equal(t, map[string]any{
		"requests_count": map[string]any{"success": 0.0, "error": 0.0},
		"latency_ms":     map[string]any{"average": 0.0, "p95": 0.0, "p99": 0.0},
	}, stats)
	require.NoError(t, json.Unmarshal(ask(h, "GET", "/version").Body.Bytes(), &version))
	require.Equal(t, map[string]any{"version": "1.2.3"}, version)
}

func TestMethodsAndPaths(t *testing.T) {
	h := port()
	require.Equal(t, 404, ask(h, "GET", "/").Code)
	require.Equal(t, 404, ask(h, "GET", "/debug/pprof/").Code, "off unless asked for")
	require.Equal(t, 200, ask(h, "HEAD", "/healthz").Code)
	w := ask(h, "POST", "/healthz")
	require.Equal(t, 405, w.Code)
	require.Equal(t, "GET, HEAD, OPTIONS", w.Header().Get("Allow"))
}

func TestProfilesAreGuarded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(path, []byte("admin"), 0o600))
	tokens, err := httpd.LoadTokens(path, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	on := func(c *admin.Config) { c.Pprof = true }
	off := func(c *admin.Config) { c.Loopback = false }
	token := func(c *admin.Config) { c.Tokens = tokens }
	const profile = "/debug/pprof/goroutine"

	require.Equal(t, 200, ask(port(on), "GET", profile).Code)
	require.Equal(t, 200, ask(port(on), "GET", "/debug/pprof/").Code)
	require.Equal(t, 200, ask(port(on), "GET", "/debug/pprof/cmdline").Code)
	require.Equal(t, 403, ask(port(on, off), "GET", profile).Code, "off loopback without tokens")
	require.Equal(t, 401, ask(port(on, off, token), "GET", profile).Code)
	require.Equal(t, 401, ask(port(on, token), "GET", profile).Code, "tokens count on loopback too")
	require.Equal(t, 200, ask(port(on, off, token), "GET", profile, "Authorization", "Bearer admin").Code)
	require.Equal(t, 200, ask(port(on, off), "GET", "/healthz").Code)
}

func TestWebPagesAreKeptOut(t *testing.T) {
	on := func(c *admin.Config) { c.Pprof = true }
	const profile = "/debug/pprof/goroutine"
	for site, status := range map[string]int{"": 200, "none": 200, "same-origin": 200, "same-site": 403, "cross-site": 403} {
		require.Equal(t, status, ask(port(on), "GET", profile, "Sec-Fetch-Site", site).Code, site)
	}
	for host, status := range map[string]int{
		"localhost": 200, "localhost:8081": 200, "127.0.0.1:8081": 200, "[::1]:8081": 200, "127.9.9.9": 200,
		"LOCALHOST:8081": 200, "LocalHost": 200, "[::1]": 200, "[::2]": 403,
		"evil.example": 403, "evil.example:8081": 403, "localhost.evil.example": 403, "10.0.0.1:8081": 403, "": 403,
	} {
		require.Equal(t, status, ask(port(on), "GET", profile, "Host", host).Code, host)
	}
	require.Equal(t, 200, ask(port(on), "GET", "/healthz", "Host", "evil.example", "Sec-Fetch-Site", "cross-site").Code)
}

// TestWebPagesOfOlderBrowsersAreKeptOut has no Sec-Fetch-Site.
func TestWebPagesOfOlderBrowsersAreKeptOut(t *testing.T) {
	imports := 0
	h := port(func(c *admin.Config) {
		c.Data.Import = func(context.Context, io.Reader, string) (any, error) { imports++; return nil, nil }
		c.Pprof = true
	})
	for _, origin := range []string{"http://evil.example", "https://evil.example:8081", "http://localhost:8082", "null"} {
		require.Equal(t, 403, ask(h, "POST", "/import", "Origin", origin, "Content-Type", "text/plain").Code, origin)
		require.Equal(t, 403, ask(h, "GET", "/debug/pprof/cmdline", "Origin", origin).Code, origin)
	}
	require.Zero(t, imports)
	require.Equal(t, 200, ask(h, "POST", "/import").Code, "other clients send no Origin")
	require.Equal(t, 200, ask(h, "POST", "/import", "Origin", "http://localhost:8081").Code)
	require.Equal(t, 2, imports)
}

func TestData(t *testing.T) {
	h := port(func(c *admin.Config) {
		c.Data = admin.Data{
			Backup: func(_ context.Context, compact bool) (io.ReadCloser, int64, error) {
				text := fmt.Sprint("the copy, compact: ", compact)
				return io.NopCloser(strings.NewReader(text)), int64(len(text)), nil
			},
			Export: func(_ context.Context, format string) (string, func(io.Writer) (int, error), error) {
				if format == "xml" {
					return "", nil, fmt.Errorf("%w: no xml", admin.ErrInput)
				}
				return "text/" + format, func(w io.Writer) (int, error) { _, err := io.WriteString(w, "everyone"); return 7, err }, nil
			},
			Import: func(_ context.Context, body io.Reader, format string) (any, error) {
				text, err := io.ReadAll(body)
				if format == "xml" {
					return nil, fmt.Errorf("%w: no xml", admin.ErrInput)
				}
				return map[string]int{"taken": len(text)}, err
			},
		}
	})
	require.Equal(t, "the copy, compact: false", ask(h, "GET", "/backup").Body.String())
	w := ask(h, "GET", "/backup?compact")
	require.Equal(t, "the copy, compact: true", w.Body.String())
	require.Equal(t, strconv.Itoa(w.Body.Len()), w.Header().Get("Content-Length"))
	for value, compact := range map[string]bool{"": true, "true": true, "1": true, "false": false, "0": false} {
		require.Equal(t, fmt.Sprint("the copy, compact: ", compact), ask(h, "GET", "/backup?compact="+value).Body.String(), value)
	}
	for _, query := range []string{"compact=maybe", "compact=TRUE", "compact=2", "compact=%20", "compact&compact=false"} {
		w := ask(h, "GET", "/backup?"+query)
		require.Equal(t, 400, w.Code, query)
		require.Equal(t, "compact must be true or false, once\n", w.Body.String())
	}
	w = ask(h, "GET", "/export?format=csv")
	require.Equal(t, "everyone", w.Body.String())
	require.Equal(t, "text/csv", w.Header().Get("Content-Type"))
	require.Equal(t, "7", w.Result().Trailer.Get(admin.LeftOut))
	require.Equal(t, 400, ask(h, "GET", "/export?format=xml").Code)
	require.Equal(t, 405, ask(h, "GET", "/import").Code)
	require.JSONEq(t, `{"taken": 0}`, ask(h, "POST", "/import").Body.String())
	require.Equal(t, 400, ask(h, "POST", "/import?format=xml").Code)
	for _, path := range []string{"/backup", "/export"} {
		require.Equal(t, 403, ask(h, "GET", path, "Host", "evil.example").Code)
		require.Equal(t, 404, ask(port(), "GET", path).Code, "what a store cannot do is not there")
	}
}

// TestAFailingExportIsCutOff wants no whole answer of half the people.
func TestAFailingExportIsCutOff(t *testing.T) {
	h := port(func(c *admin.Config) {
		c.Data.Export = func(context.Context, string) (string, func(io.Writer) (int, error), error) {
			return "text/plain", func(w io.Writer) (int, error) {
				_, _ = io.WriteString(w, "half")
				return 0, errors.New("the store is away")
			}, nil
		}
	})
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { ask(h, "GET", "/export") })
}
