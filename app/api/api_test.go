package api_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"birthday-demo/app/api"
	"birthday-demo/app/birthday"
	"birthday-demo/app/httpd"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

// server is an API on a real store, whose every answer is compared with
// openapi.yaml.
type server struct {
	t        testing.TB
	config   api.Config
	handler  http.Handler
	registry *prometheus.Registry
	spec     *spec
}

// now is noon before the birthday of someone born on 17 May.
var now = time.Date(2026, 5, 16, 12, 0, 0, 0, time.UTC)

// TestTheSameOnPostgreSQL runs the tests on the other store.
func TestTheSameOnPostgreSQL(t *testing.T) {
	pgtest.Need(t)
	require.Contains(t, testkit.Again(t, onPostgreSQL+"=yes", "^Test"), usesPostgreSQL)
}

// onPostgreSQL is a variable that has the tests use PostgreSQL, and usesPostgreSQL
// is what they then log.
const onPostgreSQL, usesPostgreSQL = "TEST_ON_POSTGRESQL", "people are in PostgreSQL"

// openStore opens a new store.
func openStore(t testing.TB) birthday.Store {
	t.Helper()
	if os.Getenv(onPostgreSQL) == "" {
		store, err := bolt.Open(filepath.Join(t.TempDir(), "birthday.db"), bolt.Options{Failed: func(err error) { t.Errorf("the disk failed: %v", err) }})
		require.NoError(t, err)
		return store
	}
	url := pgtest.Empty(t)
	_, err := postgres.Migrate(context.Background(), url, postgres.Options{}, postgres.Role{})
	require.NoError(t, err)
	store, err := postgres.Open(context.Background(), url, postgres.Options{})
	require.NoError(t, err)
	t.Log(usesPostgreSQL)
	return store
}

// newServer makes an API; change may set other things than the defaults.
func newServer(t testing.TB, change ...func(*api.Config)) *server {
	t.Helper()
	registry := prometheus.NewRegistry()
	s := &server{t: t, registry: registry, spec: loadSpec(t), config: api.Config{
		Now:      func() time.Time { return now },
		Zone:     time.UTC,
		LeapDay:  birthday.Mar1,
		Registry: registry,
		HTTP:     httpd.Config{Log: slog.New(slog.DiscardHandler)},
	}}
	for _, c := range change {
		c(&s.config)
	}
	if s.config.Store == nil {
		s.config.Store = openStore(t)
		t.Cleanup(func() { _ = s.config.Store.Close() })
	}
	s.handler = api.New(s.config)
	return s
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
	json   map[string]any // of a JSON body
}

// do sends a request; headers are pairs of a name and a value.
func (s *server) do(method, target, body string, headers ...string) answer {
	s.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, reader)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Header(), body: w.Body.String()}
	if strings.Contains(w.Header().Get("Content-Type"), "json") {
		require.NoError(s.t, json.Unmarshal(w.Body.Bytes(), &a.json), a.body)
	}
	s.spec.validate(s.t, method, target, body, r.Header, a)
	return a
}

func (s *server) put(name, date string) {
	s.t.Helper()
	require.Equal(s.t, 204, s.do("PUT", "/hello/"+name, `{"dateOfBirth": "`+date+`"}`).status)
}

// codes gives the codes of a refusal, sorted and joined.
func (a answer) codes() string {
	errs, _ := a.json["errors"].(map[string]any)
	codes := make([]string, 0, len(errs))
	for _, code := range []string{"INVALID_BODY", "INVALID_DATE", "INVALID_TIMEZONE", "INVALID_USERNAME"} {
		if _, ok := errs[code]; ok {
			codes = append(codes, code)
		}
	}
	return strings.Join(codes, " ")
}

// tokens makes a set of one token.
func tokens(t testing.TB, token string) *httpd.Tokens {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(path, []byte(token), 0o600))
	set, err := httpd.LoadTokens(path, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return set
}
