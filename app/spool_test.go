package main

import (
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/bolt"
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
	broken := errors.New("the disk is on fire")
	s := spoolOf(t, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return broken
	})
	text, err := io.ReadAll(s)
	require.Equal(t, "half", string(text))
	require.ErrorIs(t, err, broken)
	require.NoError(t, s.Close())
}

func TestAClosedSpoolStopsItsFiller(t *testing.T) {
	stopped := make(chan error, 1)
	s := spoolOf(t, func(w io.Writer) error {
		for {
			if _, err := io.WriteString(w, "on and on"); err != nil {
				stopped <- err
				return err
			}
		}
	})
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-stopped, errSpoolClosed)
}

// TestASpoolLetsGoOfTheStore closes the store under a spool that nobody reads.
func TestASpoolLetsGoOfTheStore(t *testing.T) {
	folder := t.TempDir()
	store, err := bolt.Open(folder+"/s.db", func(err error) { t.Error(err) })
	require.NoError(t, err)
	require.NoError(t, store.Put(t.Context(), birthday.Person{Username: "ana", Born: birthday.Date{Year: 1990, Month: 5, Day: 17}}))
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

func TestASpoolWithoutSpaceIsRefused(t *testing.T) {
	_, err := nameless(t.TempDir(), 1<<60)
	require.Error(t, err)
	_, err = nameless(t.TempDir()+"/away", 1)
	require.ErrorIs(t, err, os.ErrNotExist)
}
