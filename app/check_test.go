package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/bolt"
	"birthday-demo/app/testkit"
)

// check runs the command and gives its report and exit code.
func check(t *testing.T, args ...string) (report string, code int) {
	t.Helper()
	var out testkit.Output
	err := run(t.Context(), testWorld(&out, &out, nil, append([]string{"check"}, args...)...))
	return out.String(), exitCode(err)
}

func TestCheckBeforeTheFirstStart(t *testing.T) {
	folder := t.TempDir()
	report, code := check(t, "--store="+filepath.Join(folder, "birthday.db"), "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
	require.Zero(t, code, report)
	require.Contains(t, report, "does not exist yet, and can be made")
	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, files, "a check changes nothing")
}

func TestCheckBesideTheService(t *testing.T) {
	store := "--store=" + filepath.Join(t.TempDir(), "birthday.db")
	a := start(t, store)
	ports := []string{"--listen=" + strings.TrimPrefix(a.public, "http://"), "--admin-listen=" + strings.TrimPrefix(a.internal, "http://")}
	report, code := check(t, append(ports, store)...)
	require.Zero(t, code, report)
	require.Contains(t, report, "ready")
	require.Contains(t, report, "in use")
	require.NoError(t, a.stop())
	report, code = check(t, append(ports, store)...)
	require.Zero(t, code, report)
	require.Contains(t, report, "every page and record verified")
	require.Contains(t, report, "is free")
	require.Contains(t, report, "a 204 is synced to this disk before it is sent")
}

func TestCheckTellsAboutTheCopies(t *testing.T) {
	folder := t.TempDir()
	args := []string{"--store=" + filepath.Join(folder, "birthday.db"), "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"}
	report, code := check(t, args...)
	require.Zero(t, code, report)
	require.Contains(t, report, "ok     backups    none are scheduled; --backup-dir names a folder for them\n")

	nowhere := filepath.Join(folder, "not", "here")
	report, code = check(t, append(args, "--backup-dir="+nowhere)...)
	require.Equal(t, 1, code)
	require.Contains(t, report, fmt.Sprintf("FAULT  backups    cannot write to %s as uid %d: no such file or directory; make the folder", nowhere, os.Getuid()))

	copies := filepath.Join(folder, "copies")
	args = append(args, "--backup-dir="+copies)
	report, code = check(t, args...)
	require.Zero(t, code, report)
	require.Contains(t, report, "ok     backups    "+copies+" does not exist yet, and can be made\n")
	require.NoDirExists(t, copies)

	require.NoError(t, os.Mkdir(copies, 0o700))
	report, code = check(t, args...)
	require.Zero(t, code, report)
	require.Contains(t, report, "ok     backups    "+copies+" can be written; copies: 0\n")

	store, err := bolt.Open(filepath.Join(folder, "birthday.db"), bolt.Options{})
	require.NoError(t, err)
	for _, name := range []string{"birthday-20250102T030405Z.db", "birthday-20260102T030405Z.db", "birthday-20990102T030405Z.db", "mine.db"} {
		file, err := os.Create(filepath.Join(copies, name))
		require.NoError(t, err)
		_, err = store.Backup(t.Context(), file)
		require.NoError(t, errors.Join(err, file.Close()))
	}
	require.NoError(t, store.Close())
	require.NoError(t, os.WriteFile(filepath.Join(copies, "birthday-20240102T030405Z.db"), nil, 0o600))
	report, code = check(t, args...)
	require.Zero(t, code, report)
	require.Contains(t, report, copies+" can be written; copies: 2, the newest of 2026-01-02T03:04:05Z\n", "the future does not count")
	require.Contains(t, report, "warn   backups    "+copies+" has files with the name of a copy that are none of this store: 1; they are left alone\n")
	files, err := os.ReadDir(copies)
	require.NoError(t, err)
	require.Len(t, files, 5, "a check leaves nothing")
}

func TestCheckFindsFaults(t *testing.T) {
	folder := t.TempDir()
	damaged := filepath.Join(folder, "damaged.db")
	require.NoError(t, os.WriteFile(damaged, []byte("no data base"), 0o600))
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = busy.Close() }()
	free := "--listen=127.0.0.1:0"

	report, code := check(t, "--time-zone=Mars", "--leap-day=x")
	require.Equal(t, 2, code)
	require.Contains(t, report, "Mars")
	require.Contains(t, report, "leap-day")

	report, code = check(t, free, "--admin-listen=127.0.0.1:0", "--store="+damaged)
	require.Equal(t, 5, code)
	require.Contains(t, report, "FAULT  store")

	report, code = check(t, "--listen="+busy.Addr().String(), "--admin-listen=127.0.0.1:0", "--store="+filepath.Join(folder, "new.db"))
	require.Equal(t, 1, code)
	require.Contains(t, report, "FAULT  ports")

	report, code = check(t, free, "--admin-listen=127.0.0.1:0", "--store=/no/such/folder/b.db")
	require.Equal(t, 1, code)
	require.Contains(t, report, "make the folder /no/such/folder")

	open := filepath.Join(folder, "tokens")
	require.NoError(t, os.WriteFile(open, []byte("token"), 0o600))
	require.NoError(t, os.Chmod(open, 0o644))
	report, code = check(t, free, "--admin-listen=127.0.0.1:0", "--store="+filepath.Join(folder, "new.db"), "--write-tokens-file="+open)
	require.Zero(t, code, "a warning is no fault")
	require.Contains(t, report, "chmod 600 "+open)
}
