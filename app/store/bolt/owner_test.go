package bolt_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/bolt"
	"birthday-demo/app/testkit"
)

// servicesUser owns a folder in which root works.
const servicesUser = 65532

// servicesFolder makes a folder of the service's user.
func servicesFolder(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.Missing(t, "root", "sudo")
	}
	folder := t.TempDir()
	require.NoError(t, os.Chown(folder, servicesUser, servicesUser))
	return folder
}

func ownerOf(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Lstat(path)
	require.NoError(t, err)
	return info.Sys().(*syscall.Stat_t).Uid
}

// TestANewStoreIsTheFoldersOwners is for root, who imports before the first start.
func TestANewStoreIsTheFoldersOwners(t *testing.T) {
	path := filepath.Join(servicesFolder(t), "birthday.db")
	open(t, path)
	require.EqualValues(t, servicesUser, ownerOf(t, path))
}

// TestRootFollowsNoLinkOfAnother has the service's user put a link to a file of root
// in the place of the store.
func TestRootFollowsNoLinkOfAnother(t *testing.T) {
	folder, secret := servicesFolder(t), t.TempDir()
	backup, victim, path := filepath.Join(secret, "backup.db"), filepath.Join(secret, "victim"), filepath.Join(folder, "birthday.db")
	require.NoError(t, open(t, backup).Close())
	require.NoError(t, os.WriteFile(victim, []byte("secret"), 0o600))
	require.NoError(t, os.Symlink(victim, path))
	require.NoError(t, os.Lchown(path, servicesUser, servicesUser))

	_, err := bolt.Restore(t.Context(), path, backup, true)
	require.ErrorContains(t, err, "is a link that user 65532 made to a file of user 0")
	_, err = bolt.Compact(t.Context(), path)
	require.ErrorContains(t, err, "is a link that user 65532 made to a file of user 0")
	text, err := os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "secret", string(text))
	require.EqualValues(t, 0, ownerOf(t, victim))

	require.NoError(t, os.Lchown(path, 0, 0))
	_, err = bolt.Restore(t.Context(), path, backup, true)
	require.NoError(t, err, "root's own link is followed")
}
