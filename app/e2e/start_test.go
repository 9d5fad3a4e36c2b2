//go:build linux

package e2e_test

import (
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/testkit"
)

// TestAStartThatTakesLongHasSystemdWait reads its store from a disk that takes its time.
func TestAStartThatTakesLongHasSystemdWait(t *testing.T) {
	testkit.Needs(t, "strace", "strace")
	folder := t.TempDir()
	store, path := filepath.Join(folder, "birthday.db"), filepath.Join(folder, "notify")
	serve(t, store).stop(t)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer func() { _ = socket.Close() }()
	slow := launch{
		wrapper: []string{
			"strace", "-D", "-f", "-qq", "-o", filepath.Join(folder, "trace"),
			"-P", store, "-e", "trace=pread64", "-e", "inject=pread64:delay_enter=500000",
		},
		env: []string{"NOTIFY_SOCKET=" + path},
	}
	slow.serve(t, store).kill()
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(10*time.Second)))
	message := make([]byte, 100)
	n, err := socket.Read(message)
	require.NoError(t, err)
	require.Equal(t, "EXTEND_TIMEOUT_USEC=30000000", string(message[:n]), "before it is ready")
}

// TestFewAddresses has a limit that the memory map of the store does not fit into
// as it would like.
func TestFewAddresses(t *testing.T) {
	few := launch{wrapper: []string{"sh", "-c", `ulimit -v 3000000; exec "$@"`, "sh"}}
	s := few.serve(t, filepath.Join(t.TempDir(), "birthday.db"))
	c := &client{address: s.public}
	defer c.close()
	for n := range 500 { // until the file has grown
		status, err := c.put(letters(n), "1990-05-17")
		require.NoError(t, err)
		require.Equal(t, http.StatusNoContent, status)
	}
	s.stop(t)
}
