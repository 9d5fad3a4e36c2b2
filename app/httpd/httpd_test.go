package httpd_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"birthday-demo/app/httpd"
	"birthday-demo/app/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logBuffer is a log that tests read.
type logBuffer struct{ testkit.Output }

// lines gives what was logged, a map a line.
func (b *logBuffer) lines(t *testing.T) (lines []map[string]any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(b.String()))
	for {
		var line map[string]any
		if err := decoder.Decode(&line); errors.Is(err, io.EOF) {
			return lines
		} else {
			require.NoError(t, err)
		}
		lines = append(lines, line)
	}
}

func newLog(b *logBuffer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// serve answers one request through Wrap and a route.
func serve(c httpd.Config, h httpd.Handler, r *http.Request) *httptest.ResponseRecorder {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	w := httptest.NewRecorder()
	httpd.Wrap(httpd.Route("/things/{name}", httpd.Methods{http.MethodGet: h, http.MethodPut: h}), c).ServeHTTP(w, r)
	return w
}

func get(path string) *http.Request { return httptest.NewRequest(http.MethodGet, path, nil) }

func fine(w http.ResponseWriter, _ *http.Request) error {
	_, err := io.WriteString(w, "fine")
	return err
}

func TestEveryAnswerHasTheCommonHeaders(t *testing.T) {
	for what, h := range map[string]httpd.Handler{
		"an answer":  fine,
		"a refusal":  func(http.ResponseWriter, *http.Request) error { return &httpd.Refusal{Status: 404, Detail: "no"} },
		"a panic":    func(http.ResponseWriter, *http.Request) error { panic("oh") },
		"an unknown": func(http.ResponseWriter, *http.Request) error { return errors.New("oh") },
	} {
		t.Run(what, func(t *testing.T) {
			w := serve(httpd.Config{}, h, get("/things/x"))
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
			id, err := uuid.Parse(w.Header().Get("X-Request-Id"))
			require.NoError(t, err)
			require.EqualValues(t, 7, id.Version())
		})
	}
}

func TestRequestIDsAreTakenOverWhenTheyAreHarmless(t *testing.T) {
	for id, taken := range map[string]bool{
		"a": true, "A.b_c-9": true, strings.Repeat("x", 64): true,
		"": false, strings.Repeat("x", 65): false, "a b": false, "a/b": false, "é": false, "a\x00": false, `"`: false,
	} {
		r := get("/things/x")
		r.Header.Set("X-Request-Id", id)
		w := serve(httpd.Config{}, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("X-Seen", httpd.RequestID(w))
			return nil
		}, r)
		require.Equal(t, taken, w.Header().Get("X-Request-Id") == id, "%q", id)
		require.Equal(t, w.Header().Get("X-Request-Id"), w.Header().Get("X-Seen"))
	}
}

func TestMethods(t *testing.T) {
	const all = "GET, HEAD, OPTIONS, PUT"
	tests := []struct {
		method, allow, body string
		status              int
	}{
		{"GET", "", "fine", 200},
		{"HEAD", "", "fine", 200}, // net/http keeps the body back
		{"PUT", "", "fine", 200},
		{"OPTIONS", all, "", 204},
		{"DELETE", all, "this path takes the methods " + all + "\n", 405},
		{"TRACE", all, "this path takes the methods " + all + "\n", 405},
		{"get", all, "this path takes the methods " + all + "\n", 405},
		{"BREW", all, "this path takes the methods " + all + "\n", 405},
	}
	for _, tt := range tests {
		t.Run(tt.method, func(t *testing.T) {
			w := serve(httpd.Config{}, fine, httptest.NewRequest(tt.method, "/things/x", nil))
			require.Equal(t, tt.status, w.Code)
			require.Equal(t, tt.allow, w.Header().Get("Allow"))
			require.Equal(t, tt.body, w.Body.String())
		})
	}
}

func TestOneLineARequestWithTheTemplate(t *testing.T) {
	var log logBuffer
	r := get("/things/canary?date=canary")
	r.Header.Set("X-Request-Id", "the-id")
	serve(httpd.Config{Log: newLog(&log)}, fine, r)
	lines := log.lines(t)
	require.Len(t, lines, 1)
	delete(lines[0], "time")
	delete(lines[0], "us")
	require.Equal(t, map[string]any{
		"level": "INFO", "msg": "request", "method": "GET", "route": "/things/{name}",
		"status": 200.0, "request_id": "the-id",
	}, lines[0])
}

// lastLine is a log that keeps only its last line.
type lastLine struct{ slog.Record }

func (l *lastLine) Enabled(context.Context, slog.Level) bool { return true }

func (l *lastLine) Handle(_ context.Context, line slog.Record) error {
	l.Record = line
	return nil
}

func (l *lastLine) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *lastLine) WithGroup(string) slog.Handler      { return l }

func TestALineOfTheLogIsCheap(t *testing.T) {
	log := &lastLine{}
	h := httpd.Wrap(httpd.Route("/", httpd.Methods{http.MethodGet: fine}), httpd.Config{Log: slog.New(log)})
	r, w := get("/"), httptest.NewRecorder()
	r.Header.Set("X-Request-Id", "mine")
	allocations := testing.AllocsPerRun(100, func() {
		w.Body.Reset()
		h.ServeHTTP(w, r)
	})
	require.LessOrEqual(t, allocations, 3.0, "the exchange, its id in the header, the body of the test")
	require.Equal(t, "request", log.Message)
	require.Zero(t, log.PC, "nobody looked for the caller")
}

func TestTheLogSaysWhyARequestFailed(t *testing.T) {
	var log logBuffer
	serve(httpd.Config{Log: newLog(&log)}, func(http.ResponseWriter, *http.Request) error {
		return errors.New("the disk is on fire")
	}, get("/things/x"))
	lines := log.lines(t)
	require.Len(t, lines, 1)
	require.Equal(t, "ERROR", lines[0]["level"])
	require.Equal(t, "the disk is on fire", lines[0]["error"])
	require.EqualValues(t, 500, lines[0]["status"])
}

func TestTheClientIsLoggedOnlyForAbuse(t *testing.T) {
	for status, logged := range map[int]bool{401: true, 403: true, 429: true, 400: false, 404: false, 503: false} {
		var log logBuffer
		serve(httpd.Config{Log: newLog(&log)}, func(http.ResponseWriter, *http.Request) error {
			return &httpd.Refusal{Status: status}
		}, get("/things/x"))
		require.Equal(t, logged, log.lines(t)[0]["client"] == "192.0.2.1", status)
	}
}

func TestAPanicIsARefusalAndTellsNothing(t *testing.T) {
	var log logBuffer
	w := serve(httpd.Config{Log: newLog(&log)}, func(http.ResponseWriter, *http.Request) error {
		panic("canary")
	}, get("/things/x"))
	require.Equal(t, 500, w.Code)
	require.NotContains(t, w.Body.String(), "canary")
	lines := log.lines(t)
	require.Len(t, lines, 2)
	require.Equal(t, "a string", lines[0]["panic"])
	require.Contains(t, lines[0]["stack"], "httpd_test.go")
	require.NotContains(t, log.String(), "canary")
}

func TestARuntimePanicIsNamed(t *testing.T) {
	var log logBuffer
	w := serve(httpd.Config{Log: newLog(&log)}, func(_ http.ResponseWriter, r *http.Request) error {
		var none []int
		_ = none[len(r.Method)]
		return nil
	}, get("/things/x"))
	require.Equal(t, 500, w.Code)
	require.Equal(t, "runtime error: index out of range [3] with length 0", log.lines(t)[0]["panic"])
}

// TestACutAnswerIsAborted wants a broken connection, not a whole answer, when a
// handler fails after it has begun to write.
func TestACutAnswerIsAborted(t *testing.T) {
	for what, fail := range map[string]httpd.Handler{
		"error": func(w http.ResponseWriter, r *http.Request) error {
			return errors.Join(fine(w, r), errors.New("the rest is lost"))
		},
		"panic": func(w http.ResponseWriter, r *http.Request) error { _ = fine(w, r); panic("oh") },
		"abort": func(w http.ResponseWriter, r *http.Request) error { _ = fine(w, r); panic(http.ErrAbortHandler) },
	} {
		t.Run(what, func(t *testing.T) {
			var log logBuffer
			require.PanicsWithValue(t, http.ErrAbortHandler, func() { serve(httpd.Config{Log: newLog(&log)}, fail, get("/things/x")) })
			lines := log.lines(t)
			last := lines[len(lines)-1]
			require.Equal(t, what != "abort", last["level"] == "ERROR", last)
			require.Equal(t, map[string]any{"error": "the rest is lost", "panic": "panic with a string", "abort": nil}[what], last["error"])
		})
	}
}

// TestARefusalWithACauseIsLogged has one that is meant, and one with a cause that
// nobody would hear of.
func TestARefusalWithACauseIsLogged(t *testing.T) {
	later := &httpd.Refusal{Status: http.StatusServiceUnavailable, Detail: "later"}
	for err, level := range map[error]string{later: "INFO", fmt.Errorf("%w: the disk is full", later): "ERROR"} {
		var log logBuffer
		w := serve(httpd.Config{Log: newLog(&log)}, func(http.ResponseWriter, *http.Request) error { return err }, get("/things/x"))
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, "later\n", w.Body.String())
		require.Equal(t, level, log.lines(t)[0]["level"])
		require.Equal(t, err.Error(), log.lines(t)[0]["error"])
	}
}

func TestAClientThatLeftIsNoFailureOfOurs(t *testing.T) {
	var log logBuffer
	registry := prometheus.NewRegistry()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := serve(httpd.Config{Log: newLog(&log), Metrics: httpd.NewMetrics(registry)},
		func(_ http.ResponseWriter, r *http.Request) error { return r.Context().Err() },
		get("/things/x").WithContext(ctx))
	require.Equal(t, 500, w.Code, "one that only stopped sending is not told that all is well")
	require.EqualValues(t, 499, log.lines(t)[0]["status"])
	require.Equal(t, "INFO", log.lines(t)[0]["level"])
}

func TestTooManyAtOnceAreShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		slow := func(w http.ResponseWriter, r *http.Request) error { <-release; return fine(w, r) }
		h := httpd.Wrap(httpd.Route("/", httpd.Methods{"GET": slow}), httpd.Config{Log: slog.New(slog.DiscardHandler), MaxInFlight: 2})
		ask := func() *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, get("/"))
			return w
		}
		answers := make(chan int, 2)
		for range 2 {
			go func() { answers <- ask().Code }()
		}
		synctest.Wait()
		w := ask()
		require.Equal(t, 503, w.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		close(release)
		require.Equal(t, 200, <-answers)
		require.Equal(t, 200, <-answers)
		require.Equal(t, 200, ask().Code)
	})
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := httpd.Wrap(httpd.Route("/", httpd.Methods{"GET": fine}), httpd.Config{Log: slog.New(slog.DiscardHandler), RateLimit: 3})
		ask := func(address string) *httptest.ResponseRecorder {
			r, w := get("/"), httptest.NewRecorder()
			r.RemoteAddr = address
			h.ServeHTTP(w, r)
			return w
		}
		for range 3 {
			require.Equal(t, 200, ask("192.0.2.1:1").Code)
		}
		w := ask("192.0.2.1:2")
		require.Equal(t, 429, w.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.Equal(t, 200, ask("192.0.2.2:1").Code, "another client has its own share")
		time.Sleep(2 * time.Second)
		require.Equal(t, 200, ask("192.0.2.1:3").Code, "and time heals")

		for host := range 3 { // one IPv6 client usually has a whole /64
			require.Equal(t, 200, ask("[2001:db8::"+string(rune('1'+host))+"]:1").Code)
		}
		require.Equal(t, 429, ask("[2001:db8::9]:1").Code)
		require.Equal(t, 200, ask("[2001:db8:0:1::9]:1").Code)
	})
}

func TestBodiesAreLimited(t *testing.T) {
	read := func(w http.ResponseWriter, r *http.Request) error {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		_, err = w.Write(body)
		return err
	}
	put := func(body io.Reader) *httptest.ResponseRecorder {
		return serve(httpd.Config{}, httpd.LimitBody(10, read), httptest.NewRequest(http.MethodPut, "/things/x", body))
	}
	require.Equal(t, "0123456789", put(strings.NewReader("0123456789")).Body.String())
	require.Equal(t, 413, put(strings.NewReader("0123456789a")).Code, "announced")
	require.Equal(t, "0123456789", put(io.MultiReader(strings.NewReader("0123456789"))).Body.String())
	require.Equal(t, 413, put(io.MultiReader(strings.NewReader("0123456789a"))).Code, "not announced")
}

func TestMetricsHaveFewLabels(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := httpd.Wrap(httpd.Route("/things/{name}", httpd.Methods{"GET": fine}),
		httpd.Config{Log: slog.New(slog.DiscardHandler), Metrics: httpd.NewMetrics(registry)})
	for _, method := range []string{"GET", "BREW", "get", "MKCOL"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/things/"+method, nil))
	}
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP http_requests_in_flight Requests of the public port that are at work.
# TYPE http_requests_in_flight gauge
http_requests_in_flight 0
# HELP http_requests_total Requests of the public port, by route template, method and status; 499 is a client that did not wait.
# TYPE http_requests_total counter
http_requests_total{method="GET",route="/things/{name}",status="200"} 1
http_requests_total{method="other",route="/things/{name}",status="405"} 3
`), "http_requests_total", "http_requests_in_flight"))
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestUnknownPathsShareOneLabel(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := httpd.Wrap(http.HandlerFunc(httpd.NotFound),
		httpd.Config{Log: slog.New(slog.DiscardHandler), Metrics: httpd.NewMetrics(registry)})
	for _, path := range []string{"/a", "/b", "/c"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, get(path))
		require.Equal(t, 404, w.Code)
	}
	count, err := testutil.GatherAndCount(registry, "http_requests_total")
	require.NoError(t, err)
	require.Equal(t, 1, count)
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stats := httpd.NewStats()
		require.Equal(t, httpd.Summary{}, stats.Summary())
		status, took := 200, time.Millisecond
		h := httpd.Wrap(httpd.Route("/", httpd.Methods{"GET": func(w http.ResponseWriter, _ *http.Request) error {
			time.Sleep(took)
			w.WriteHeader(status)
			return nil
		}}), httpd.Config{Log: slog.New(slog.DiscardHandler), Stats: stats})
		for n := range 100 {
			status, took = 200+100*(n%5), time.Duration(n+1)*time.Millisecond // 200, 300, … 600
			h.ServeHTTP(httptest.NewRecorder(), get("/"))
		}
		sum := stats.Summary()
		require.EqualValues(t, 40, sum.Requests.Success, "200 to 399")
		require.EqualValues(t, 60, sum.Requests.Error)
		require.InDelta(t, 50.5, sum.Latency.Average, 0.01)
		require.InDelta(t, 95, sum.Latency.P95, 1)
		require.InDelta(t, 99, sum.Latency.P99, 1)
	})
}

// TestAStalledAnswerIsEnded reads nothing of an endless answer.
func TestAStalledAnswerIsEnded(t *testing.T) {
	ended := make(chan error, 1)
	endless := func(w http.ResponseWriter, _ *http.Request) error {
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				ended <- err
				return nil
			}
		}
	}
	server := httptest.NewServer(httpd.Wrap(httpd.Route("/", httpd.Methods{"GET": endless}),
		httpd.Config{Log: slog.New(slog.DiscardHandler), StallTimeout: 50 * time.Millisecond}))
	defer server.Close()
	response, err := server.Client().Get(server.URL + "/")
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	require.ErrorContains(t, <-ended, "i/o timeout")
}

// TestAStalledBodyIsEnded sends half a body, and then a whole one.
func TestAStalledBodyIsEnded(t *testing.T) {
	read := make(chan error, 1)
	h := func(_ http.ResponseWriter, r *http.Request) error {
		_, err := io.ReadAll(r.Body)
		time.Sleep(100 * time.Millisecond) // longer than a stall, which the end of the body ends
		read <- errors.Join(err, r.Context().Err())
		return nil
	}
	server := httptest.NewServer(httpd.Wrap(httpd.Route("/", httpd.Methods{"PUT": h}),
		httpd.Config{Log: slog.New(slog.DiscardHandler), StallTimeout: 50 * time.Millisecond}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
	require.NoError(t, err)
	require.ErrorContains(t, <-read, "i/o timeout")

	request, err := http.NewRequest(http.MethodPut, server.URL, strings.NewReader("abcd"))
	require.NoError(t, err)
	response, err := server.Client().Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.NoError(t, <-read)
}

func TestARouteNeedsTheWrapper(t *testing.T) {
	require.Panics(t, func() {
		httpd.Route("/", httpd.Methods{"GET": fine}).ServeHTTP(httptest.NewRecorder(), get("/"))
	})
}
