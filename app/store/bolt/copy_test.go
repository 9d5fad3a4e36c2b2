package bolt_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/storetest"
)

// everyone gives all people of the file at path, which nobody else has open.
func everyone(t *testing.T, path string) []birthday.Person {
	t.Helper()
	s := open(t, path)
	people, err := s.After(t.Context(), "", 1_000_000)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	return people
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Size()
}

func TestPutAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	require.NoError(t, s.Put(t.Context(), storetest.Person("bob", "1980-01-01")))
	people := []birthday.Person{storetest.Person("ana", "1990-05-17"), storetest.Person("bob", "1991-06-18"), storetest.Person("eve", "1992-07-19")}
	require.NoError(t, s.PutAll(t.Context(), people))
	bad := []birthday.Person{storetest.Person("new", "1990-05-17"), {Username: "odd"}}
	require.ErrorContains(t, s.PutAll(t.Context(), bad), "no day of the calendar")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.PutAll(cancelled, people), context.Canceled)
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.PutAll(t.Context(), people), birthday.ErrUnavailable)
	require.Equal(t, people, everyone(t, path), "all of a commit or nothing")
}

func TestBackupWhilePeopleAreWritten(t *testing.T) {
	folder := t.TempDir()
	s := open(t, filepath.Join(folder, "birthday.db"))
	fill(t, s, 2000)
	written, born := make(chan struct{}), storetest.Person("x", "1990-05-17").Born
	go func() {
		defer close(written)
		for n := range 200 {
			_ = s.Put(context.Background(), birthday.Person{Username: "zz" + storetest.Username(n), Born: born})
		}
	}()
	var copies []string
	for range 5 {
		path := filepath.Join(folder, fmt.Sprintf("copy%d.db", len(copies)))
		file, err := os.Create(path)
		require.NoError(t, err)
		n, err := s.Backup(t.Context(), file)
		require.NoError(t, err)
		info, err := file.Stat()
		require.NoError(t, err)
		require.Equal(t, info.Size(), n)
		require.NoError(t, file.Close())
		copies = append(copies, path)
	}
	<-written
	require.NoError(t, s.Close())
	_, err := s.Backup(t.Context(), os.Stdout)
	require.ErrorIs(t, err, birthday.ErrUnavailable)
	before := 2000
	for _, path := range copies { // one writer, in order: each copy has a prefix of its history
		people := everyone(t, path)
		require.GreaterOrEqual(t, len(people), before)
		before = len(people)
		for i, p := range people[2000:] {
			require.Equal(t, "zz"+storetest.Username(i), p.Username)
		}
	}
}

func TestCopyOfAStoppedFile(t *testing.T) {
	folder := t.TempDir()
	path, copied := filepath.Join(folder, "birthday.db"), filepath.Join(folder, "copy.db")
	s := open(t, path)
	fill(t, s, 100)
	synctest.Test(t, func(t *testing.T) {
		require.ErrorIs(t, bolt.Copy(path, &bytes.Buffer{}), bolt.ErrLocked)
	})
	require.NoError(t, s.Close())
	var content bytes.Buffer
	require.NoError(t, bolt.Copy(path, &content))
	require.NoError(t, os.WriteFile(copied, content.Bytes(), 0o600))
	require.Equal(t, everyone(t, path), everyone(t, copied))
}

// TestCompactLeavesNothingOfTheErased reads the raw bytes of the file.
func TestCompactLeavesNothingOfTheErased(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	fill(t, s, 3000)
	canary := storetest.Person("kanarienvogel", "1990-05-17")
	require.NoError(t, s.Put(t.Context(), canary))
	require.NoError(t, s.Delete(t.Context(), canary.Username))
	require.NoError(t, s.Close())
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(before), "kanarienvogel", "a delete alone leaves bytes behind")

	people := everyone(t, path)
	report, err := bolt.Compact(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, bolt.Report{People: 3000, Bytes: sizeOf(t, path)}, report)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(after), "kanarienvogel")
	require.LessOrEqual(t, len(after), len(before))
	require.Equal(t, people, everyone(t, path))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

// ending is a context that ends when it was asked some times.
type ending struct {
	context.Context
	left int
}

func (e *ending) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return nil
}

// interrupt ends a change of the only file in a folder at every moment that the
// change looks whether it is to end, and wants the old file each time. In the end
// it lets the change through, and gives what that returned and how often it looked.
func interrupt(t *testing.T, path string, change func(context.Context) (bolt.Report, error)) (bolt.Report, int) {
	t.Helper()
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	for left := 0; ; left++ {
		report, err := change(&ending{t.Context(), left})
		files, readErr := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
		require.NoError(t, readErr)
		require.Equal(t, []string{path}, files, "nothing temporary is left")
		after, readErr := os.ReadFile(path)
		require.NoError(t, readErr)
		if err == nil {
			require.NotEqual(t, before, after)
			return report, left
		}
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, before, after)
	}
}

func TestAnInterruptedCompactLeavesTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	fill(t, s, 100)
	require.NoError(t, s.Delete(t.Context(), storetest.Username(7*7919)))
	require.NoError(t, s.Close())
	report, looks := interrupt(t, path, func(ctx context.Context) (bolt.Report, error) { return bolt.Compact(ctx, path) })
	require.Equal(t, 99, report.People)
	require.Greater(t, looks, 99, "it looks often enough")
}

func TestAnInterruptedRestoreLeavesTheOldFile(t *testing.T) {
	path, backup := filepath.Join(t.TempDir(), "birthday.db"), filepath.Join(t.TempDir(), "backup.db")
	for at, people := range map[string]int{path: 1, backup: 100_000} {
		s := open(t, at)
		fill(t, s, people)
		require.NoError(t, s.Close())
	}
	info, err := os.Stat(backup)
	require.NoError(t, err)
	report, looks := interrupt(t, path, func(ctx context.Context) (bolt.Report, error) { return bolt.Restore(ctx, path, backup, true) })
	require.Equal(t, 100_000, report.People)
	require.Greater(t, looks, int(info.Size()>>20), "it looks once a MiB")
}

func TestALinkIsFollowed(t *testing.T) {
	folder := t.TempDir()
	path, link := filepath.Join(folder, "data.db"), filepath.Join(folder, "link.db")
	require.NoError(t, os.Symlink(path, link))
	_, err := bolt.Restore(t.Context(), link, path, true)
	require.Error(t, err, "a link to nothing")
	s := open(t, path)
	require.NoError(t, s.Put(t.Context(), storetest.Person("kanarienvogel", "1990-05-17")))
	require.NoError(t, s.Delete(t.Context(), "kanarienvogel"))
	require.NoError(t, s.Close())
	_, err = bolt.Compact(t.Context(), link)
	require.NoError(t, err)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(content), "kanarienvogel")
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.Equal(t, os.ModeSymlink, info.Mode().Type(), "and stays a link")
}

func TestCompactRefusesAFileInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := open(t, path)
	synctest.Test(t, func(t *testing.T) {
		_, err := bolt.Compact(t.Context(), path)
		require.ErrorIs(t, err, bolt.ErrLocked)
	})
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	require.NoError(t, s.Close())
	require.Len(t, everyone(t, path), 1)
}

func TestRestore(t *testing.T) {
	folder := t.TempDir()
	backup, target := filepath.Join(folder, "backup.db"), filepath.Join(folder, "birthday.db")
	s := open(t, backup)
	fill(t, s, 100)
	require.NoError(t, s.Close())
	people := everyone(t, backup)

	report, err := bolt.Restore(t.Context(), target, backup, false)
	require.NoError(t, err, "where there is no store")
	require.Equal(t, 100, report.People)
	require.Equal(t, people, everyone(t, target))

	_, err = bolt.Restore(t.Context(), target, backup, false)
	require.ErrorIs(t, err, bolt.ErrNotEmpty)
	require.ErrorContains(t, err, "--force")
	s = open(t, target)
	require.NoError(t, s.Put(t.Context(), storetest.Person("extra", "1990-05-17")))
	synctest.Test(t, func(t *testing.T) {
		_, err = bolt.Restore(t.Context(), target, backup, true)
		require.ErrorIs(t, err, bolt.ErrLocked, "not even by force")
	})
	require.NoError(t, s.Close())
	_, err = bolt.Restore(t.Context(), target, backup, true)
	require.NoError(t, err)
	require.Equal(t, people, everyone(t, target))

	empty := filepath.Join(folder, "empty.db")
	require.NoError(t, open(t, empty).Close())
	_, err = bolt.Restore(t.Context(), empty, backup, false)
	require.NoError(t, err, "into a store without people")
	require.Equal(t, people, everyone(t, empty))
}

func TestRestoreKeepsTheOwner(t *testing.T) {
	if os.Getuid() != 0 {
		return // others can only make files of their own
	}
	folder := t.TempDir()
	backup, target := filepath.Join(folder, "backup.db"), filepath.Join(folder, "birthday.db")
	require.NoError(t, open(t, backup).Close())
	require.NoError(t, open(t, target).Close())
	require.NoError(t, os.Chown(target, 65532, 65531))
	_, err := bolt.Restore(t.Context(), target, backup, false)
	require.NoError(t, err)
	_, err = bolt.Compact(t.Context(), target)
	require.NoError(t, err)
	info, err := os.Stat(target)
	require.NoError(t, err)
	owner := info.Sys().(*syscall.Stat_t)
	require.EqualValues(t, 65532, owner.Uid)
	require.EqualValues(t, 65531, owner.Gid)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestRestoreRefusesADamagedCopy(t *testing.T) {
	folder := t.TempDir()
	target, backup := filepath.Join(folder, "birthday.db"), filepath.Join(folder, "backup.db")
	s := open(t, target)
	fill(t, s, 100)
	require.NoError(t, s.Close())
	before := everyone(t, target)
	content, err := os.ReadFile(target)
	require.NoError(t, err)
	content[4096+20] ^= 1 // in a meta page
	require.NoError(t, os.WriteFile(backup, content, 0o600))
	for _, force := range []bool{false, true} {
		_, err = bolt.Restore(t.Context(), target, backup, force)
		require.ErrorIs(t, err, bolt.ErrDamaged)
	}
	require.Equal(t, before, everyone(t, target))

	require.NoError(t, os.Rename(backup, target+".damaged"))
	_, err = bolt.Restore(t.Context(), target+".damaged", target, false)
	require.ErrorIs(t, err, bolt.ErrDamaged, "what is in the way cannot be read")
	require.ErrorContains(t, err, "--force")
	_, err = bolt.Restore(t.Context(), target+".damaged", target, true)
	require.NoError(t, err)
	require.Equal(t, before, everyone(t, target+".damaged"))
}

// TestWhoWaitsForTheLockFindsTheRestoredFile opens a store while another one is
// being put in its place.
func TestWhoWaitsForTheLockFindsTheRestoredFile(t *testing.T) {
	folder := t.TempDir()
	target, next := filepath.Join(folder, "birthday.db"), filepath.Join(folder, "next.db")
	s := open(t, next)
	fill(t, s, 10)
	require.NoError(t, s.Close())
	owner := open(t, target)
	opened := make(chan *bolt.Store, 1)
	go func() {
		s, err := bolt.Open(target, bolt.Options{})
		if err != nil {
			t.Errorf("open: %v", err)
		}
		opened <- s
	}()
	require.NoError(t, os.Rename(next, target)) // as Restore does at its end
	require.NoError(t, owner.Close())
	s = <-opened
	people, err := s.After(t.Context(), "", 100)
	require.NoError(t, err)
	require.Len(t, people, 10)
	require.NoError(t, s.Close())
}
