package e2e_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTheStopIsBoundedWhenAllNeighboursStandStill has a log that nobody reads, a
// Sentry and a supervisor that take nothing, and a client that never ends its request.
func TestTheStopIsBoundedWhenAllNeighboursStandStill(t *testing.T) {
	log, stderr, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _ = log.Close() }()
	sentry, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	require.NoError(t, err)
	defer func() { _ = sentry.Close() }()
	folder := t.TempDir()
	store := filepath.Join(folder, "store")
	require.NoError(t, os.Mkdir(store, 0o700))
	s := launch{stderr: stderr, env: []string{
		"SENTRY_DSN=http://key@" + sentry.Addr().String() + "/1",
		"NOTIFY_SOCKET=" + fullSocket(t, filepath.Join(folder, "notify")),
	}}.serve(t, filepath.Join(store, "birthday.db"), "--drain-delay=1s", "--shutdown-timeout=2s")
	require.NoError(t, stderr.Close())
	s.ask(t, s.public, "/hello/ana", 404, overfull)
	require.NoError(t, os.RemoveAll(store))
	s.ask(t, s.internal, "/backup", 500, 10)
	conn, err := net.Dial("tcp", s.public)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "PUT /hello/ana HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\n{")
	require.NoError(t, err)

	begin := time.Now()
	s.signal(t, syscall.SIGTERM)
	require.Equal(t, 1, s.wait(t), "a request was cut off")
	took := time.Since(begin)
	t.Logf("it took %v", took)
	require.Less(t, took, 6*time.Second, "the drain delay, the shutdown time-out and 3 s")
}

// fullSocket makes a socket of a supervisor that has no room for another message.
func fullSocket(t *testing.T, path string) string {
	t.Helper()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	conn, err := net.Dial("unixgram", path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	for err == nil {
		require.NoError(t, conn.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
		_, err = conn.Write([]byte("full"))
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	return path
}
