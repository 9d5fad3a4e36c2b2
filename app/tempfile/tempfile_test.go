package tempfile_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/tempfile"
	"birthday-demo/app/testkit"
)

// files lists the names in a folder.
func files(t *testing.T, folder string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func create(t *testing.T, folder, text string) *tempfile.File {
	t.Helper()
	file, err := tempfile.Create(folder)
	require.NoError(t, err)
	t.Cleanup(func() { _ = file.Discard() })
	_, err = file.WriteString(text)
	require.NoError(t, err)
	return file
}

func TestCommitReplacesInOneStep(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "x")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o644))
	file := create(t, folder, "new")
	old, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "old", string(old))

	require.NoError(t, file.Commit(path))
	require.NoError(t, file.Discard(), "which leaves what was committed")
	require.Equal(t, []string{"x"}, files(t, folder))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "new", string(text))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestCommitNewReplacesNothing(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "x")
	require.NoError(t, create(t, folder, "first").CommitNew(path))
	second := create(t, folder, "second")
	require.ErrorIs(t, second.CommitNew(path), fs.ErrExist)
	require.NoError(t, second.Discard())
	require.Equal(t, []string{"x"}, files(t, folder))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "first", string(text))
}

func TestDiscardLeavesNothing(t *testing.T) {
	folder := t.TempDir()
	file := create(t, folder, "x")
	require.NoError(t, file.Discard())
	require.NoError(t, file.Discard(), "a second time")
	require.Empty(t, files(t, folder))
}

// TestALinkInItsPlaceIsRefused has the owner of the folder plant a link, as soon as
// the temporary file is there, to a file that only root should write.
func TestALinkInItsPlaceIsRefused(t *testing.T) {
	folder, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	require.NoError(t, os.WriteFile(victim, []byte("secret"), 0o600))
	before, err := os.Stat(victim)
	require.NoError(t, err)
	file := create(t, folder, "one")
	require.NoError(t, os.Remove(file.Name()))
	require.NoError(t, os.Symlink(victim, file.Name()))

	if os.Geteuid() == 0 { // only root can give files away
		require.NoError(t, os.Chown(folder, 65532, 65532))
	}
	require.NoError(t, file.KeepOwner(filepath.Join(folder, "x")))
	_, err = file.WriteString("two")
	require.NoError(t, err)
	require.ErrorContains(t, file.Commit(filepath.Join(folder, "x")), "somebody replaced the temporary file")

	text, err := os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "secret", string(text))
	after, err := os.Stat(victim)
	require.NoError(t, err)
	require.Equal(t, before.Sys().(*syscall.Stat_t).Uid, after.Sys().(*syscall.Stat_t).Uid)
	require.NoFileExists(t, filepath.Join(folder, "x"))
}

func TestAnErrorDoesNotTellTheTemporaryName(t *testing.T) {
	_, err := tempfile.Create(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotContains(t, err.Error(), ".birthday")
}

func TestSweepRemovesWhatACrashHasLeft(t *testing.T) {
	folder, now := t.TempDir(), time.Now()
	old := now.Add(-2 * time.Hour)
	for name, made := range map[string]time.Time{
		".birthday-1.new": old, ".birthday-2.copy": old, ".birthday-3.check": old,
		".birthday-4.new": now, "birthday-5.new": old, ".birthday-6.db": old,
	} {
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Chtimes(path, made, made))
	}
	require.NoError(t, os.Mkdir(filepath.Join(folder, ".birthday-[.new"), 0o700))
	var removed []string
	tempfile.Sweep(folder, now, func(path string, err error) {
		require.NoError(t, err)
		removed = append(removed, filepath.Base(path))
	})
	require.Equal(t, []string{".birthday-1.new", ".birthday-2.copy", ".birthday-3.check"}, removed)
	require.Equal(t, []string{".birthday-4.new", ".birthday-6.db", ".birthday-[.new", "birthday-5.new"}, files(t, folder))
	tempfile.Sweep(filepath.Join(folder, "none"), now, nil)
}

// TestAFolderThatKnowsNoSync is on a file system where a folder's sync is an error.
func TestAFolderThatKnowsNoSync(t *testing.T) {
	const folder = "/proc"
	f, err := os.Open(folder)
	if err != nil {
		testkit.Missing(t, folder, "a Linux kernel")
	}
	defer func() { _ = f.Close() }()
	require.ErrorIs(t, f.Sync(), syscall.EINVAL)
	require.NoError(t, tempfile.SyncFolder(folder))
}
