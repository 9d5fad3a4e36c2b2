package e2e_test

import (
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// fewFiles is a wrapper whose program may have 200 files open.
var fewFiles = []string{"sh", "-c", `ulimit -n 200; exec "$@"`, "sh"}

// TestAFloodOfConnectionsLeavesFilesForTheProbes opens more connections than the
// process may have files.
func TestAFloodOfConnectionsLeavesFilesForTheProbes(t *testing.T) {
	for _, args := range [][]string{nil, {"--max-connections=0"}} {
		store := filepath.Join(t.TempDir(), "birthday.db")
		s := launch{wrapper: fewFiles}.serve(t, store, args...)
		require.Contains(t, s.stderr.String(), "the public port takes 100 connections at once")
		for range 300 {
			conn, err := net.Dial("tcp", s.public)
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
		}
		s.ask(t, s.internal, "/healthz", 200, 3)
		s.ask(t, s.internal, "/readyz", 200, 3)
		s.stop(t)

		line := append(append(append([]string{}, fewFiles...), program(t), "check", "--store="+store, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"), args...)
		out, err := exec.Command(line[0], line[1:]...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "warn   ports      the public port takes 100 connections at once")
	}
}
