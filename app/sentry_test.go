package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/httpd"
	"birthday-demo/app/testkit"
)

// fakeSentry takes what is sent to Sentry. It gives a DSN, and all that came.
func fakeSentry(t *testing.T) (dsn string, received *testkit.Output) {
	t.Helper()
	received = &testkit.Output{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(received, r.Body)
	}))
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "http://", "http://kanarienschluessel@", 1) + "/1", received
}

func TestAFailedStartIsReported(t *testing.T) {
	dsn, received := fakeSentry(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = busy.Close() }()
	var stderr testkit.Output
	environ := []string{"SENTRY_DSN=" + dsn, "SENTRY_ENVIRONMENT=rehearsal", "SENTRY_RELEASE=1.2.3"}
	w := testWorld(io.Discard, &stderr, environ, "serve", "--listen="+busy.Addr().String(), "--admin-listen=127.0.0.1:0", "--store="+t.TempDir()+"/s.db")
	require.Error(t, run(t.Context(), w))
	for _, part := range []string{`"message":"stopped"`, "address already in use", `"environment":"rehearsal"`, `"release":"1.2.3"`} {
		require.Contains(t, received.String(), part)
	}
	require.NotContains(t, stderr.String(), "kanarienschluessel")
	http.DefaultClient.CloseIdleConnections()
}

// TestReportsHoldNoPersonalData lets requests with canaries fail in all ways that
// are logged as errors, and reads every byte that Sentry gets.
func TestReportsHoldNoPersonalData(t *testing.T) {
	dsn, received := fakeSentry(t)
	var stderr testkit.Output
	w := testWorld(io.Discard, &stderr, []string{"SENTRY_DSN=" + dsn}, "serve")
	s := newSettings()
	require.NoError(t, s.load(w))
	log, flush, err := reportErrors(newLog(w.stderr, s), s, w, version{Version: "7"})
	require.NoError(t, err)
	for _, fail := range []httpd.Handler{
		func(http.ResponseWriter, *http.Request) error { return errors.New("the disk is on fire") },
		func(_ http.ResponseWriter, r *http.Request) error { panic(r.URL.Path) },
		func(_ http.ResponseWriter, r *http.Request) error { panic(fmt.Errorf("of %s", r.URL)) },
	} {
		h := httpd.Wrap(httpd.Route("/hello/{username}", httpd.Methods{http.MethodPut: fail}), httpd.Config{Log: log})
		r := httptest.NewRequest(http.MethodPut, "/hello/kanarienvogel?dateOfBirth=1987-06-05", strings.NewReader(`{"dateOfBirth":"1987-06-05"}`))
		r.Header.Set("Authorization", "Bearer kanarientoken")
		r.Header.Set("Cookie", "kanarien=1")
		r.RemoteAddr = "203.0.113.77:4711"
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	log.Error("somebody asked", "client", "203.0.113.77")
	log.With("route", "/by/another").WithGroup("group").Error("somebody grouped")
	log.With("route", "/before").Error("somebody else", "route", "/after")
	log.Info("all is well")
	flush()
	for _, part := range []string{"the disk is on fire", "/hello/{username}", `"panic"`, `"release":"7"`, "somebody asked", "/by/another", "somebody grouped", `{"route":"/after"}`} {
		require.Contains(t, received.String(), part)
	}
	require.NotContains(t, received.String(), "all is well", "only errors are reported")
	text := strings.ReplaceAll(received.String(), "kanarienschluessel", "")
	for _, canary := range []string{"kanarien", "1987-06-05", "203.0.113"} {
		require.NotContains(t, text, canary)
	}
	require.Contains(t, stderr.String(), "all is well", "the log goes on")
	http.DefaultClient.CloseIdleConnections()
}

// TestASentryThatNeverAnswers holds up no end.
func TestASentryThatNeverAnswers(t *testing.T) {
	sentry := silentListener(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = busy.Close() }()
	w := testWorld(io.Discard, io.Discard, []string{"SENTRY_DSN=http://key@" + sentry + "/1"},
		"serve", "--listen="+busy.Addr().String(), "--admin-listen=127.0.0.1:0", "--store="+t.TempDir()+"/s.db")
	begin := time.Now()
	require.ErrorContains(t, run(t.Context(), w), "address already in use")
	require.Less(t, time.Since(begin), 10*time.Second)
}

// silentListener accepts connections and never answers. It returns its address.
func silentListener(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	accepted := make(chan struct{})
	var conns []net.Conn
	go func() {
		defer close(accepted)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-accepted
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return listener.Addr().String()
}

func TestABadDSNIsNotShown(t *testing.T) {
	for _, dsn := range []string{"kanarien", "https://kanarien@", "ftp://kanarien:vogel@sentry.example.com/1"} {
		var stderr testkit.Output
		w := testWorld(io.Discard, &stderr, nil, "serve", "--sentry-dsn="+dsn)
		s := newSettings()
		require.NoError(t, s.load(w))
		s.SentryDSN = dsn
		_, _, err := reportErrors(slog.New(slog.DiscardHandler), s, w, version{})
		require.Equal(t, exitUsage, exitCode(err))
		require.ErrorContains(t, err, "sentry-dsn")
		require.NotContains(t, err.Error(), "kanarien")
	}
}
