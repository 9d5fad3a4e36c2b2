package postgres_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/store/storetest"
	"birthday-demo/app/testkit"
)

// dumped makes a dump of the database at url, and gives its path.
func dumped(t *testing.T, url string, o postgres.Options) string {
	t.Helper()
	testkit.Needs(t, "pg_dump", "postgresql-client")
	var out bytes.Buffer
	require.NoError(t, postgres.Dump(t.Context(), url, o, &out))
	path := filepath.Join(t.TempDir(), "people.dump")
	require.NoError(t, os.WriteFile(path, out.Bytes(), 0o600))
	return path
}

// everyone reads all people of a store.
func everyone(t *testing.T, s *postgres.Store) (people []birthday.Person) {
	t.Helper()
	for p, err := range s.All(t.Context()) {
		require.NoError(t, err)
		people = append(people, p)
	}
	return people
}

func TestDumpAndRestore(t *testing.T) {
	s, url := fresh(t)
	people := append(crowd(1_000, 1990), storetest.Person("ñandú", "0001-01-01"), storetest.Person("さくら", "1990-05-17"))
	require.NoError(t, s.PutAll(t.Context(), people))
	path := dumped(t, url, postgres.Options{})
	n, err := postgres.VerifyDump(t.Context(), path)
	require.NoError(t, err)
	require.Len(t, people, n)

	other, otherURL := fresh(t)
	n, err = postgres.Restore(t.Context(), otherURL, postgres.Options{}, path, false)
	require.NoError(t, err)
	require.Len(t, people, n)
	require.Equal(t, people, everyone(t, other))

	require.NoError(t, other.Put(t.Context(), storetest.Person("newcomer", "1990-05-17")))
	_, err = postgres.Restore(t.Context(), otherURL, postgres.Options{}, path, false)
	require.ErrorIs(t, err, postgres.ErrNotEmpty)
	require.ErrorContains(t, err, "--force")
	require.Len(t, everyone(t, other), len(people)+1, "a refusal changes nothing")
	_, err = postgres.Restore(t.Context(), otherURL, postgres.Options{}, path, true)
	require.NoError(t, err)
	require.Equal(t, people, everyone(t, other))
}

// TestARestoreLeavesOutWhatTheTableRefuses has a dump with rows that were put in by
// hand.
func TestARestoreLeavesOutWhatTheTableRefuses(t *testing.T) {
	s, url := fresh(t)
	putByHand(t, url)
	require.NoError(t, s.PutAll(t.Context(), crowd(100, 1990)))
	path := dumped(t, url, postgres.Options{})
	n, err := postgres.VerifyDump(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, 100+len(noDates), n, "the dump has them")
	other, otherURL := fresh(t)
	n, err = postgres.Restore(t.Context(), otherURL, postgres.Options{}, path, false)
	var leftOut *birthday.LeftOutError
	require.ErrorAs(t, err, &leftOut)
	require.Equal(t, len(noDates), leftOut.Count)
	require.Equal(t, 100, n)
	require.Equal(t, crowd(100, 1990), everyone(t, other))
}

func TestADumpOfNobody(t *testing.T) {
	_, url := fresh(t)
	path := dumped(t, url, postgres.Options{})
	s, url := fresh(t)
	n, err := postgres.Restore(t.Context(), url, postgres.Options{}, path, false)
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, s.Ping(t.Context()))
}

// TestTheServicesRoleMayDump also has a URL with all that the programs of
// PostgreSQL do not know, and a password that only the file has.
func TestTheServicesRoleMayDump(t *testing.T) {
	server := pgtest.Shared(t)
	database := empty(t, server)
	_, err := postgres.Migrate(t.Context(), server.URL(database), postgres.Options{}, postgres.Role{Name: "dumper", Password: "canary"})
	require.NoError(t, err)
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("canary\n"), 0o600))
	o := postgres.Options{PasswordFile: password}
	url := "postgres://dumper:wrong@" + server.Address + "/?dbname=" + database + "&sslmode=disable&pool_max_conns=3" +
		"&statement_timeout=1234&options=-c%20work_mem%3D5MB&application_name=a%20name"
	s := openWith(t, url, o)
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	path := dumped(t, url, o)
	n, err := postgres.Restore(t.Context(), url, o, path, true)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

func TestWhatTheProgramsConnectWith(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("it's a \\ canary;\n"), 0o600))
	conninfo, secret, err := postgres.ForPrograms(
		"postgres://app:canary@one:5433,two/it's?password=canary&sslrootcert=/a%20b/c;d&sslmode=prefer&search_path=a%20b&pool_max_conns=3",
		postgres.Options{PasswordFile: password})
	require.ErrorContains(t, err, "unable to read CA file", "where it must be there")
	require.Empty(t, conninfo+secret)
	conninfo, secret, err = postgres.ForPrograms(
		"postgres://app:canary@one:5433,two/it's?password=canary&sslmode=prefer&search_path=a%20b&pool_max_conns=3",
		postgres.Options{PasswordFile: password})
	require.NoError(t, err)
	require.Equal(t, `it's a \ canary;`, secret)
	require.Equal(t, `application_name='birthday-demo backup' connect_timeout='10' dbname='it\'s' host='one,two' keepalives_count='3' `+
		`keepalives_idle='10' keepalives_interval='5' options='-c search_path=a\\ b' port='5433,5432' sslmode='prefer' `+
		`target_session_attrs='read-write' tcp_user_timeout='30000' user='app'`, conninfo)
}

func TestADumpThatCannotBeWrittenSaysWhy(t *testing.T) {
	_, url := fresh(t)
	testkit.Needs(t, "pg_dump", "postgresql-client")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer func() { _ = full.Close() }()
	require.ErrorIs(t, postgres.Dump(t.Context(), url, postgres.Options{}, full), syscall.ENOSPC)
}

// TestADamagedDumpIsRefused cuts a dump everywhere, and flips a bit of its data.
func TestADamagedDumpIsRefused(t *testing.T) {
	s, url := fresh(t)
	people := crowd(2_000, 1990)
	require.NoError(t, s.PutAll(t.Context(), people))
	path := dumped(t, url, postgres.Options{})
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	refused := func(content []byte) {
		require.NoError(t, os.WriteFile(path, content, 0o600))
		_, err := postgres.VerifyDump(t.Context(), path)
		require.Error(t, err)
		_, err = postgres.Restore(t.Context(), url, postgres.Options{}, path, true)
		require.Error(t, err)
	}
	for end := 0; end < len(whole); end += len(whole) / 20 {
		refused(whole[:end])
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-len(flipped)/4] ^= 1 // amid the rows, which are compressed
	refused(flipped)
	refused([]byte("username,dateOfBirth\n"))
	require.Equal(t, people, everyone(t, s), "a refusal changes nothing")
	_, err = postgres.VerifyDump(t.Context(), filepath.Join(t.TempDir(), "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestWhatIsNoDumpOfPeopleIsRefused(t *testing.T) {
	_, url := fresh(t)
	path := dumped(t, url, postgres.Options{})
	other, err := exec.Command("pg_dump", "--format=custom", "--table=goose_db_version", "--dbname="+url).Output()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, other, 0o600))
	_, err = postgres.VerifyDump(t.Context(), path)
	require.ErrorContains(t, err, "no copy of people")

	url = pgtest.Empty(t)
	err = postgres.Dump(t.Context(), url, postgres.Options{}, new(bytes.Buffer))
	require.ErrorContains(t, err, "no matching tables")
	_, err = postgres.Restore(t.Context(), url, postgres.Options{}, path, false)
	var behind *postgres.SchemaError
	require.ErrorAs(t, err, &behind)
}

// TestARestoreIsOneStep reads while one is at work.
func TestARestoreIsOneStep(t *testing.T) {
	s, url := fresh(t)
	require.NoError(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")))
	path := dumped(t, url, postgres.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, s.Put(ctx, storetest.Person("bob", "1990-05-17")))
	done := make(chan error, 1)
	go func() {
		_, err := postgres.Restore(ctx, url, postgres.Options{}, path, true)
		done <- err
	}()
	for restored := false; !restored; {
		people, err := s.After(ctx, "", 10)
		require.NoError(t, err)
		require.NotEmpty(t, people, "it takes one step")
		restored = len(people) == 1
	}
	require.NoError(t, <-done)
	require.NoError(t, s.Put(ctx, storetest.Person("bob", "1990-05-17")))
}
