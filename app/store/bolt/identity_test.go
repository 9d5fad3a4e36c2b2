package bolt_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/storetest"
)

func identify(t *testing.T, path string) bolt.Identity {
	t.Helper()
	identity, err := bolt.Identify(path)
	require.NoError(t, err)
	return identity
}

func TestIdentityOfAStoreAndItsCopies(t *testing.T) {
	folder := t.TempDir()
	path, copied := filepath.Join(folder, "birthday.db"), filepath.Join(folder, "copy.db")
	s := open(t, path)
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	id := s.ID()
	require.NotEmpty(t, id)
	require.Equal(t, bolt.Identity{ID: id}, identify(t, path), "also while it is open")
	file, err := os.Create(copied)
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	_, err = s.Backup(t.Context(), file)
	require.NoError(t, err)
	require.Equal(t, bolt.Identity{ID: id, Copy: true}, identify(t, copied))

	require.NoError(t, open(t, copied).Close())
	require.Equal(t, bolt.Identity{ID: id}, identify(t, copied), "who opens a copy as a store makes it one")
	require.NoError(t, s.Close())
	require.Equal(t, id, open(t, path).ID(), "the next start has the same")
	require.NotEqual(t, id, open(t, filepath.Join(folder, "other.db")).ID())
}

func TestAStoreOfAnOldReleaseGetsAnIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	copyFile(t, filepath.Join("testdata", "format-1.db"), path)
	require.Empty(t, identify(t, path).ID)
	id := open(t, path).ID()
	require.NotEmpty(t, id)
	require.Equal(t, bolt.Identity{ID: id}, identify(t, path))
}

func TestIdentityOfAnythingElseIsAnError(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string][]byte{"empty": nil, "text": []byte("x"), "foreign": foreign(t, "other")} {
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		identity, err := bolt.Identify(path)
		require.Empty(t, identity.ID)
		require.Equal(t, name != "foreign", err != nil, "%s: %v", name, err)
	}
	_, err := bolt.Identify(folder)
	require.Error(t, err)
}
