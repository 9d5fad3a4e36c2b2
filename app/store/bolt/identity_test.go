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

	look, err := bolt.Open(copied, bolt.Options{})
	require.NoError(t, err)
	require.True(t, look.WasCopy())
	require.NoError(t, look.Close())
	require.Equal(t, bolt.Identity{ID: id, Copy: true}, identify(t, copied), "who only reads it leaves it one")
	served := open(t, copied)
	require.True(t, served.WasCopy())
	require.NoError(t, served.Close())
	require.Equal(t, bolt.Identity{ID: id}, identify(t, copied), "who serves from it makes it a store")
	require.False(t, open(t, copied).WasCopy())
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

func TestRestoreToAnotherStoreGivesANewIdentity(t *testing.T) {
	folder := t.TempDir()
	path, copied, other := filepath.Join(folder, "birthday.db"), filepath.Join(folder, "copy.db"), filepath.Join(folder, "other.db")
	s := open(t, path)
	file, err := os.Create(copied)
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	_, err = s.Backup(t.Context(), file)
	require.NoError(t, err)
	require.NoError(t, s.Close())

	_, err = bolt.Restore(t.Context(), path, copied, false)
	require.NoError(t, err)
	require.Equal(t, bolt.Identity{ID: s.ID(), Copy: true}, identify(t, path), "back to its own store")
	for range 2 {
		_, err = bolt.Restore(t.Context(), other, copied, false)
		require.NoError(t, err)
		require.NotEmpty(t, identify(t, other).ID)
		require.NotEqual(t, s.ID(), identify(t, other).ID, "two stores must not take each other's copies for their own")
	}
}
