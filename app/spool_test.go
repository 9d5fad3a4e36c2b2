package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/storetest"
)

func spoolOf(t *testing.T, write func(io.Writer) error) *spool {
	t.Helper()
	folder := t.TempDir()
	file, err := nameless(folder, 100)
	require.NoError(t, err)
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, left, "a crash leaves nothing")
	return newSpool(file, write)
}

func TestASpoolIsReadWhileItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		more := make(chan string)
		s := spoolOf(t, func(w io.Writer) error {
			for text := range more {
				_, _ = io.WriteString(w, text)
			}
			return nil
		})
		buffer := make([]byte, 3)
		more <- "12345"
		for _, part := range []string{"123", "45"} {
			n, err := s.Read(buffer)
			require.NoError(t, err)
			require.Equal(t, part, string(buffer[:n]))
		}
		go func() { more <- "67"; close(more) }()
		rest, err := io.ReadAll(s)
		require.NoError(t, err)
		require.Equal(t, "67", string(rest))
		require.NoError(t, s.Close())
	})
}

func TestASpoolEndsAsItsFillerDid(t *testing.T) {
	for what, end := range map[string]func() error{
		"the disk is on fire": func() error { return errors.New("the disk is on fire") },
		"panic with a string": func() error { panic("kanarienvogel") },
	} {
		s := spoolOf(t, func(w io.Writer) error {
			_, _ = io.WriteString(w, "half")
			return end()
		})
		text, err := io.ReadAll(s)
		require.Equal(t, "half", string(text))
		require.ErrorContains(t, err, "make a copy: "+what)
		require.NotContains(t, err.Error(), "kanarienvogel")
		require.NoError(t, s.Close())
	}
}

func TestAClosedSpoolStopsItsFiller(t *testing.T) {
	stopped := make(chan error, 1)
	s := spoolOf(t, func(w io.Writer) error {
		for range 1_000_000 {
			if _, err := io.WriteString(w, "on and on"); err != nil {
				stopped <- err
				return err
			}
		}
		stopped <- nil
		return nil
	})
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-stopped, errSpoolClosed)
}

// TestASpoolLetsGoOfTheStore closes the store under a spool that nobody reads.
func TestASpoolLetsGoOfTheStore(t *testing.T) {
	folder := t.TempDir()
	store, err := bolt.Open(folder+"/s.db", bolt.Options{Failed: func(err error) { t.Error(err) }})
	require.NoError(t, err)
	require.NoError(t, store.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	s, size, err := spoolSnapshot(store, folder)
	require.NoError(t, err)
	require.NoError(t, store.Close(), "which waits for open snapshots")
	copied, err := io.ReadAll(s)
	require.NoError(t, err)
	require.Len(t, copied, int(size))
	require.NoError(t, os.WriteFile(folder+"/copy.db", copied, 0o600))
	report, err := bolt.Verify(folder + "/copy.db")
	require.NoError(t, err)
	require.Equal(t, 1, report.People)
	require.NoError(t, s.Close())
	_, _, err = spoolSnapshot(store, folder)
	require.ErrorIs(t, err, birthday.ErrUnavailable)
}

func TestASpoolWithoutAFolder(t *testing.T) {
	_, err := nameless(filepath.Join(t.TempDir(), "away"), 1)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestBackupIsSentWhileItIsMade reads a copy of a running service, leaves in the
// middle of others, and wants the service to stop after that.
func TestBackupIsSentWhileItIsMade(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "birthday.db")
	store, err := bolt.Open(path, bolt.Options{})
	require.NoError(t, err)
	people := make([]birthday.Person, 100_000)
	for n := range people {
		people[n] = storetest.Person(storetest.Username(n), "1990-05-17")
	}
	require.NoError(t, store.PutAll(t.Context(), people))
	require.NoError(t, store.Close())

	a := start(t, "--store="+path)
	head, err := client.Head(a.internal + "/backup")
	require.NoError(t, err)
	require.NoError(t, head.Body.Close())
	for range 10 {
		answer, err := client.Get(a.internal + "/backup")
		require.NoError(t, err)
		require.Equal(t, head.ContentLength, answer.ContentLength)
		_, err = io.CopyN(io.Discard, answer.Body, 1000)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
	}
	answer, err := client.Get(a.internal + "/backup")
	require.NoError(t, err)
	copied, err := io.ReadAll(answer.Body)
	require.NoError(t, errors.Join(err, answer.Body.Close()))
	require.NoError(t, a.stop())
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.NoError(t, os.WriteFile(path, copied, 0o600))
	report, err := bolt.Verify(path)
	require.NoError(t, err)
	require.Equal(t, len(people), report.People)
}
