package httpd_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/httpd"
)

var quietLog = slog.New(slog.DiscardHandler)

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return listener
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

func TestAnIdleServerDrainsAtOnce(t *testing.T) {
	s := httpd.Start("test", listen(t), http.HandlerFunc(hello), httpd.Limits{}, quietLog, nil)
	start := time.Now()
	require.NoError(t, s.Drain(t.Context(), 0))
	require.Less(t, time.Since(start), linger, "it waits for nobody when nobody is there")
}

const linger = 150 * time.Millisecond

func TestDrainServesOnForItsDelay(t *testing.T) {
	s := httpd.Start("test", listen(t), http.HandlerFunc(hello), httpd.Limits{}, quietLog, nil)
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(context.Background(), 300*time.Millisecond) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for start := time.Now(); time.Since(start) < 200*time.Millisecond; {
		response, err := client.Get("http://" + s.Addr().String())
		require.NoError(t, err)
		_ = response.Body.Close()
	}
	require.NoError(t, <-drained)
	_, err := net.Dial("tcp", s.Addr().String())
	require.Error(t, err, "then nobody listens")
}

func TestDrainFinishesWhatIsAtWork(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := httpd.Start("test", listen(t), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		hello(w, r)
	}), httpd.Limits{}, quietLog, nil)
	body := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + s.Addr().String())
		if err != nil {
			body <- err.Error()
			return
		}
		text, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		body <- string(text)
	}()
	<-entered
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(context.Background(), 0) }()
	select {
	case err := <-drained:
		t.Errorf("drained with a request at work: %v", err)
	case <-time.After(2 * linger):
	}
	close(release)
	require.NoError(t, <-drained)
	require.Equal(t, "hello", <-body)
}

func TestDrainCutsOffWhatTakesTooLong(t *testing.T) {
	entered := make(chan struct{})
	s := httpd.Start("test", listen(t), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}), httpd.Limits{}, quietLog, nil)
	go func() {
		if response, err := http.Get("http://" + s.Addr().String()); err == nil {
			_ = response.Body.Close()
		}
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := s.Drain(ctx, 0)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "cut off 1 connections")
}

// TestDrainDropsNothing replaces servers under load on one listening socket, as
// a supervisor that keeps the socket does. Clients keep their connections.
func TestDrainDropsNothing(t *testing.T) {
	socket := listen(t)
	defer func() { _ = socket.Close() }()
	address := "http://" + socket.Addr().String()
	start := func() *httpd.Server {
		return httpd.Start("test", share(t, socket), http.HandlerFunc(hello), httpd.Limits{}, quietLog, nil)
	}

	var stop atomic.Bool
	var good, bad atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second}
			defer client.CloseIdleConnections()
			for !stop.Load() {
				// A PUT: Go's client repeats a GET that fails on a kept connection.
				request, _ := http.NewRequest(http.MethodPut, address, nil)
				response, err := client.Do(request)
				if err != nil {
					bad.Add(1)
					t.Logf("failed: %v", err)
					continue
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				good.Add(1)
			}
		})
	}
	s := start()
	for range 5 {
		enough := good.Load() + 250 // so there is load
		require.Eventually(t, func() bool { return good.Load() >= enough || bad.Load() > 0 }, 20*time.Second, time.Millisecond)
		next := start()
		require.NoError(t, s.Drain(t.Context(), 0))
		s = next
	}
	stop.Store(true)
	clients.Wait()
	require.NoError(t, s.Drain(t.Context(), 0))
	require.Zero(t, bad.Load(), "of %d requests", good.Load()+bad.Load())
	require.Greater(t, good.Load(), int64(1000))
}

// share gives another listener on the same socket, as a process gets it that
// takes over from another: what waits to be accepted waits for either.
func share(t *testing.T, socket net.Listener) net.Listener {
	t.Helper()
	file, err := socket.(*net.TCPListener).File()
	require.NoError(t, err)
	shared, err := net.FileListener(file)
	require.NoError(t, errors.Join(err, file.Close()))
	return shared
}

func TestABrokenListenerIsReported(t *testing.T) {
	listener, failed := listen(t), make(chan error, 1)
	s := httpd.Start("test", listener, http.HandlerFunc(hello), httpd.Limits{}, quietLog, failed)
	require.NoError(t, listener.Close())
	require.ErrorContains(t, <-failed, "test port: ")
	require.NoError(t, s.Shutdown(t.Context()))
}

func TestConnectionsAreLimited(t *testing.T) {
	s := httpd.Start("test", listen(t), http.HandlerFunc(hello), httpd.Limits{MaxConnections: 2}, quietLog, nil)
	ask := func() (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", s.Addr().String())
		require.NoError(t, err)
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		return conn, bufio.NewReader(conn)
	}
	answered := func(conn net.Conn, r *bufio.Reader, within time.Duration) bool {
		_ = conn.SetReadDeadline(time.Now().Add(within))
		response, err := http.ReadResponse(r, nil)
		if err == nil {
			_ = response.Body.Close()
		}
		return err == nil
	}
	one, oneReader := ask()
	two, twoReader := ask()
	require.True(t, answered(one, oneReader, 5*time.Second))
	require.True(t, answered(two, twoReader, 5*time.Second))
	three, threeReader := ask()
	require.False(t, answered(three, threeReader, 100*time.Millisecond), "the third waits")
	require.NoError(t, one.Close())
	require.True(t, answered(three, bufio.NewReader(three), 5*time.Second), "until another leaves")
	_ = two.Close()
	_ = three.Close()
	require.NoError(t, s.Shutdown(t.Context()))
}

func TestSlowHeadersAreCutOff(t *testing.T) {
	s := httpd.Start("test", listen(t), http.HandlerFunc(hello), httpd.Limits{HeaderTimeout: 50 * time.Millisecond}, quietLog, nil)
	conn, err := net.Dial("tcp", s.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	require.NoError(t, err)
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = io.ReadAll(conn)
	require.NoError(t, err, "the server ends the connection, not the test's time-out")
	require.NoError(t, s.Shutdown(t.Context()))
}
