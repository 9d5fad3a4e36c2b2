package httpd_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"birthday-demo/app/httpd"
)

// TestKindsOfRequestsAreToldApart sends requests of several kinds through one
// handler, again and again and at once.
func TestKindsOfRequestsAreToldApart(t *testing.T) {
	var log logBuffer
	registry := prometheus.NewRegistry()
	answer := func(w http.ResponseWriter, r *http.Request) error {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.WriteHeader(status)
		return nil
	}
	h := httpd.Wrap(httpd.Route("/things/{name}", httpd.Methods{http.MethodGet: answer, http.MethodPut: answer}),
		httpd.Config{Log: newLog(&log), Metrics: httpd.NewMetrics(registry)})
	kinds := map[string]int{"GET 200": 3, "GET 404": 6, "PUT 200": 9, "BREW 405": 12}
	var all sync.WaitGroup
	for kind, count := range kinds {
		method, status, _ := strings.Cut(kind, " ")
		for range count {
			all.Go(func() {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/things/x?status="+status, nil))
			})
		}
	}
	all.Wait()

	lines := make(map[string]int)
	for _, line := range log.lines(t) {
		require.Equal(t, "/things/{name}", line["route"])
		lines[line["method"].(string)+" "+strconv.Itoa(int(line["status"].(float64)))]++
	}
	require.Equal(t, map[string]int{"GET 200": 3, "GET 404": 6, "PUT 200": 9, "other 405": 12}, lines)
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP http_requests_total Requests of the public port, by route template, method and status; 499 is a client that did not wait.
# TYPE http_requests_total counter
http_requests_total{method="GET",route="/things/{name}",status="200"} 3
http_requests_total{method="GET",route="/things/{name}",status="404"} 6
http_requests_total{method="PUT",route="/things/{name}",status="200"} 9
http_requests_total{method="other",route="/things/{name}",status="405"} 12
`), "http_requests_total"))
}

// TestTheTimeOfARequestIsWhole reads the line as it stands.
func TestTheTimeOfARequestIsWhole(t *testing.T) {
	var log logBuffer
	serve(httpd.Config{Log: newLog(&log)}, fine, get("/things/x"))
	var line struct{ US json.Number }
	require.NoError(t, json.Unmarshal([]byte(log.String()), &line))
	_, err := line.US.Int64()
	require.NoError(t, err)
}

// leaving is a client that takes no answer.
type leaving struct{ *httptest.ResponseRecorder }

func (leaving) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// TestACutAnswerIsAnErrorUnlessTheClientLeft wants to be woken for the disk only.
func TestACutAnswerIsAnErrorUnlessTheClientLeft(t *testing.T) {
	left, leave := context.WithCancel(t.Context())
	leave()
	for _, tt := range []struct {
		level string
		w     http.ResponseWriter
		r     *http.Request
	}{
		{"ERROR", httptest.NewRecorder(), get("/")},
		{"WARN", leaving{httptest.NewRecorder()}, get("/")},
		{"WARN", httptest.NewRecorder(), get("/").WithContext(left)},
	} {
		var log logBuffer
		h := httpd.Wrap(httpd.Route("/", httpd.Methods{http.MethodGet: func(w http.ResponseWriter, _ *http.Request) error {
			_, err := io.Copy(w, io.MultiReader(strings.NewReader("half"), failing{}))
			return err
		}}), httpd.Config{Log: newLog(&log)})
		require.PanicsWithValue(t, http.ErrAbortHandler, func() { h.ServeHTTP(tt.w, tt.r) })
		require.Equal(t, tt.level, log.lines(t)[0]["level"])
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk is on fire") }
