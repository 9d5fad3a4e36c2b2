package copies_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"birthday-demo/app/birthday"
	"birthday-demo/app/copies"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon is how long a test waits for what should come at once.
const soon = 20 * time.Second

// service is a store with a schedule of its copies.
type service struct {
	*copies.Schedule
	registry *prometheus.Registry
	log      testkit.Output
}

// newService opens a store of this name in a folder of its own. Its copies go to
// another one, once an hour; two are kept.
func newService(t *testing.T, storeName, folder string) *service {
	t.Helper()
	path := filepath.Join(t.TempDir(), storeName)
	store, err := bolt.Open(path, bolt.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Put(t.Context(), birthday.Person{Username: "ana", Born: birthday.Date{Year: 1990, Month: 5, Day: 17}}))
	s := &service{registry: prometheus.NewRegistry()}
	s.Schedule = &copies.Schedule{
		Store: store, Path: path, Folder: folder, Every: time.Hour, Keep: 2, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(&s.log, nil)),
	}
	s.Register(s.registry)
	return s
}

// run runs the schedule until the test stops it.
func (s *service) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	return func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(soon):
			t.Fatal("it does not stop")
		}
	}
}

// runUntil runs the schedule until its log says something.
func (s *service) runUntil(t *testing.T, said string) {
	t.Helper()
	stop := s.run(t)
	defer stop()
	require.Eventually(t, func() bool { return strings.Contains(s.log.String(), said) }, soon, time.Millisecond, "%s", &s.log)
}

// again is the same service, later and started anew.
func (s *service) again(later time.Duration) *service {
	other := &service{registry: prometheus.NewRegistry()}
	schedule := copies.Schedule{
		Store: s.Store, Path: s.Path, Folder: s.Folder, Every: s.Every, Keep: s.Keep,
		Now: func() time.Time { return s.Now().Add(later) }, Log: slog.New(slog.NewTextHandler(&other.log, nil)),
	}
	other.Schedule = &schedule
	other.Register(other.registry)
	return other
}

func (s *service) list(t *testing.T) (names []string, unknown int) {
	t.Helper()
	found, unknown, err := copies.List(s.Folder, s.Path, s.Store.ID(), time.Now().Add(1000*time.Hour))
	require.NoError(t, err)
	for _, c := range found {
		names = append(names, filepath.Base(c.Path))
	}
	return names, unknown
}

const made = "made a scheduled backup"

func TestTheNewestCopiesAreKept(t *testing.T) {
	s := newService(t, "birthday.db", filepath.Join(t.TempDir(), "new"))
	for range 4 {
		s.runUntil(t, made)
		s = s.again(2 * time.Hour)
	}
	names, unknown := s.list(t)
	require.Len(t, names, 2)
	require.Zero(t, unknown)
	require.Regexp(t, `^birthday-\d{8}T\d{6}Z\.db$`, names[1])
	report, err := bolt.Verify(filepath.Join(s.Folder, names[1]))
	require.NoError(t, err)
	require.Equal(t, 1, report.People)
}

// TestNoTwoCopiesWithinTheInterval runs in folders whose names mean something to a
// shell, and with a clock that is set back.
func TestNoTwoCopiesWithinTheInterval(t *testing.T) {
	for _, folder := range []string{"back[ups", "back*ups", "back?ups", `back\ups`, "{a,b}"} {
		t.Run(folder, func(t *testing.T) {
			s := newService(t, "birthday.db", filepath.Join(t.TempDir(), folder))
			s.Every = 2 * time.Second
			begin := time.Now()
			start := begin
			s.Now = func() time.Time { return start.Add(-time.Since(begin) * 1000) } // it runs back
			stop := s.run(t)
			defer stop()
			require.Eventually(t, func() bool { return strings.Contains(s.log.String(), made) }, soon, time.Millisecond)
			require.Never(t, func() bool { names, _ := s.list(t); return len(names) != 1 }, time.Second, 10*time.Millisecond)
		})
	}
}

func TestOfTwoServicesInOneFolderEachSeesItsOwn(t *testing.T) {
	folder := t.TempDir()
	one, other, third := newService(t, "birthday.db", folder), newService(t, "birthday.db", folder), newService(t, "birthday-x.db", folder)
	for _, s := range []*service{one, other, third} {
		s.runUntil(t, made)
	}
	for what, s := range map[string]*service{"one": one, "other": other, "third": third} {
		names, _ := s.list(t)
		require.Len(t, names, 1, "%s has a copy of its own", what)
	}
	names, unknown := one.list(t)
	theirs, _ := other.list(t)
	require.NotEqual(t, names, theirs)
	require.Equal(t, 1, unknown, "the other's of the same name")
	for range 3 {
		one = one.again(2 * time.Hour)
		one.runUntil(t, made)
	}
	kept, _ := other.list(t)
	require.Equal(t, theirs, kept, "nobody removes another's")
	require.Contains(t, one.log.String(), "none of this store that can be recognised")
}

// TestOnlyCopiesOfThisStoreAreRemoved puts what else may have the name of a copy into
// the folder, and makes copies until all older ones would be too many.
func TestOnlyCopiesOfThisStoreAreRemoved(t *testing.T) {
	s := newService(t, "birthday.db", t.TempDir())
	oldCopy := func(name string) string {
		path := filepath.Join(s.Folder, name)
		file, err := os.Create(path)
		require.NoError(t, err)
		_, err = s.Store.Backup(t.Context(), file)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		return path
	}
	open := func(path string) *bolt.Store {
		store, err := bolt.Open(path, bolt.Options{Own: true})
		require.NoError(t, err)
		return store
	}
	removed := oldCopy("birthday-20200101T000000Z.db")
	exported, err := bolt.Open(removed, bolt.Options{})
	require.NoError(t, err)
	require.NoError(t, exported.Close()) // who only read it
	left := []string{
		oldCopy("birthday-20200101T000000Z.old"), oldCopy("birthday-20200101T0000Z.db"), oldCopy("other-20200101T000000Z.db"),
		filepath.Join(s.Folder, "birthday-20200102T000000Z.db"), // a foreign file
		oldCopy("birthday-20200103T000000Z.db"),                 // served once, in an emergency
		oldCopy("birthday-20200104T000000Z.db"),                 // being served
		filepath.Join(s.Folder, "birthday-20200105T000000Z.db"), // a folder
		filepath.Join(s.Folder, "birthday-20200106T000000Z.db"), // a link
		filepath.Join(s.Folder, "birthday-20200107T000000Z.db"), // another store
	}
	require.NoError(t, os.WriteFile(left[3], []byte("foreign"), 0o600))
	require.NoError(t, open(left[4]).Close())
	served := open(left[5])
	defer func() { require.NoError(t, served.Close()) }()
	require.NoError(t, os.Mkdir(left[6], 0o700))
	require.NoError(t, os.Symlink(s.Path, left[7]))
	require.NoError(t, open(left[8]).Close())

	s.Keep = 1
	for range 3 {
		s.runUntil(t, made)
		s = s.again(2 * time.Hour)
	}
	require.NoFileExists(t, removed)
	for _, path := range left {
		_, err := os.Lstat(path)
		require.NoError(t, err, "%s is no copy of this store", path)
	}
	names, unknown := s.list(t)
	require.Len(t, names, 1)
	require.Equal(t, 6, unknown)
}

// TestTheStoreItselfIsNoCopy serves a store that is named as a copy of itself.
func TestTheStoreItselfIsNoCopy(t *testing.T) {
	s := newService(t, "birthday.db", t.TempDir())
	s.Folder = filepath.Dir(s.Path)
	link := filepath.Join(s.Folder, "birthday-20200101T000000Z.db")
	require.NoError(t, os.Link(s.Path, link))
	names, unknown := s.list(t)
	require.Empty(t, names)
	require.Equal(t, 1, unknown)
}

// smallDisk mounts a file system of so many KiB.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	folder := t.TempDir()
	if err := syscall.Mount("none", folder, "tmpfs", 0, fmt.Sprintf("size=%dk", size)); err != nil {
		testkit.Missing(t, "root, to mount a small file system", "sudo")
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(folder, 0)) })
	return folder
}

// untilFull makes copies until their disk is full, and none may make room, since all
// are to be kept. It returns their names.
func (s *service) untilFull(t *testing.T) (last *service, names []string) {
	t.Helper()
	for s.Keep = 100; ; s = s.again(2 * time.Hour) {
		s.runUntil(t, "scheduled backup")
		if strings.Contains(s.log.String(), "scheduled backup failed") {
			break
		}
	}
	require.Contains(t, s.log.String(), "no space left on device; no copy can make room for it")
	names, _ = s.list(t)
	require.Greater(t, len(names), 5)
	return s, names
}

func TestTheOldestMakeRoomOnAFullDisk(t *testing.T) {
	s, full := newService(t, "birthday.db", smallDisk(t, 400)).untilFull(t)
	s = s.again(time.Hour)
	s.Keep = 3
	s.runUntil(t, made)
	names, _ := s.list(t)
	require.Len(t, names, 3, "as many as are kept, with the new one")
	require.Equal(t, full[len(full)-2:], names[:2], "the oldest went")
	require.Contains(t, s.log.String(), "the oldest made room")
	require.NoError(t, testutil.GatherAndCompare(s.registry, strings.NewReader(fmt.Sprintf(`
# HELP birthday_backups_removed_total Scheduled copies that were removed, by reason: age, or space for the next one.
# TYPE birthday_backups_removed_total counter
birthday_backups_removed_total{reason="age"} 0
birthday_backups_removed_total{reason="space"} %d
`, len(full)-2)), "birthday_backups_removed_total"))
}

func TestOneGoodCopyAlwaysStays(t *testing.T) {
	s, names := newService(t, "birthday.db", smallDisk(t, 400)).untilFull(t)
	for _, name := range names[1:] { // a disk that loses what it holds
		path := filepath.Join(s.Folder, name)
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, bytes.ReplaceAll(content, []byte("ana"), []byte("anb")), 0o600))
	}
	s = s.again(time.Hour)
	s.Keep = 1
	s.runUntil(t, "scheduled backup failed")
	require.Contains(t, s.log.String(), "a copy is not whole")
	require.FileExists(t, filepath.Join(s.Folder, names[0]), "the only one that is whole")
}

// TestAFolderThatHangsKeepsNobody has a folder for copies whose file system does not
// answer: from the start, and in the middle of a copy.
func TestAFolderThatHangsKeepsNobody(t *testing.T) {
	mount := testkit.NewMount(t)
	s := newService(t, "birthday.db", mount.Folder)
	mount.Freeze()
	stop := s.run(t)
	require.Eventually(t, func() bool {
		stacks := make([]byte, 1<<20)
		return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "copies.(*Schedule).due")
	}, soon, time.Millisecond)
	begin := time.Now()
	stop()
	require.Less(t, time.Since(begin), 10*time.Second)
	require.Contains(t, s.log.String(), "was left at work")
	mount.Thaw()
	require.Eventually(t, func() bool { names, unknown := s.list(t); return len(names)+unknown == 0 }, soon, time.Millisecond,
		"a copy that was left ends with its context")
}
