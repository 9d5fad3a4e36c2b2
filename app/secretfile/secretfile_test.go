package secretfile_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/secretfile"
)

func TestRead(t *testing.T) {
	folder := t.TempDir()
	file, link := filepath.Join(folder, "file"), filepath.Join(folder, "link")
	require.NoError(t, os.Symlink("file", link))
	for _, text := range []string{"", "canary\n", strings.Repeat("x", 1<<20)} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		for _, path := range []string{file, link} {
			got, err := secretfile.Read(path)
			require.NoError(t, err)
			require.Equal(t, text, string(got))
		}
	}
}

func TestReadRefuses(t *testing.T) {
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	require.NoError(t, syscall.Mkfifo(in("pipe"), 0o600))
	require.NoError(t, os.Symlink("pipe", in("link")))
	require.NoError(t, os.WriteFile(in("large"), []byte("canary"+strings.Repeat("x", 1<<20)), 0o600))
	socket, err := net.Listen("unix", in("socket"))
	require.NoError(t, err)
	defer func() { _ = socket.Close() }()
	for path, why := range map[string]string{
		in("pipe"):    "it is not a regular file; name one",
		in("link"):    "it is not a regular file; name one",
		folder:        "it is not a regular file; name one",
		in("socket"):  "no such device",
		in("large"):   "more than 1 MiB",
		in("missing"): "no such file",
	} {
		_, err := secretfile.Read(path)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, why)
		require.NotContains(t, err.Error(), "canary")
	}
}

func TestReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	r := secretfile.NewReader(path)
	for _, text := range []string{"one", "two"} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		got, err := r.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}
	require.NoError(t, os.Remove(path))
	_, err := r.Read(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestADiskThatHangs has one read that stays behind, until the disk answers.
func TestADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads, answers := 0, make(chan string)
		r := secretfile.NewReaderOf("/x", func(string) ([]byte, error) {
			reads++
			return []byte(<-answers), nil
		})
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := r.Read(ctx)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "read /x: its disk does not answer")
		}
		synctest.Wait()
		require.Equal(t, 1, reads)
		answers <- "what nobody waits for"
		synctest.Wait()
		go func() { answers <- "new" }()
		got, err := r.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, "new", string(got))
		require.Equal(t, 2, reads)
	})
}
