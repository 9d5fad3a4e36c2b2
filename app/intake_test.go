package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/admin"
	"birthday-demo/app/birthday"
	"birthday-demo/app/store/storetest"
)

// commits is a store that remembers the people of each commit, until it fails.
type commits struct {
	store
	made [][]birthday.Person
	left int // how many it makes before it fails
}

var errCommit = errors.New("the disk is on fire")

func (c *commits) PutAll(_ context.Context, people []birthday.Person) error {
	if c.left--; c.left < 0 {
		return errCommit
	}
	c.made = append(c.made, slices.Clone(people))
	return nil
}

// shuffled gives people in no order: half of them twice, born in 1990 and then in 1991.
func shuffled(n int) iter.Seq2[birthday.Person, error] {
	return func(yield func(birthday.Person, error) bool) {
		for round, count := range []int{n, n / 2} {
			for i := range count {
				name := storetest.Username(i * 7919 % count)
				if !yield(storetest.Person(name, fmt.Sprintf("%d-05-17", 1990+round)), nil) {
					return
				}
			}
		}
	}
}

// TestImportSorts has a part of each size in memory, and wants the same of each.
func TestImportSorts(t *testing.T) {
	const n = 1000
	folder := t.TempDir()
	for _, inMemory := range []int{1, 7, n + n/2 - 1, n + n/2, 10 * n} {
		kept := &commits{left: 10}
		report, err := importPeople(t.Context(), kept, shuffled(n), importPlan{inMemory: inMemory, committed: 300, folder: folder})
		require.NoError(t, err)
		require.Equal(t, n+n/2, report.Taken)
		require.Equal(t, []int{300, 300, 300, 100}, lengths(kept.made))
		for i, p := range slices.Concat(kept.made...) {
			year := 1990
			if i < n/2 {
				year = 1991
			}
			require.Equal(t, storetest.Person(storetest.Username(i), fmt.Sprintf("%d-05-17", year)), p, "the last of a name wins")
		}
		left, err := os.ReadDir(folder)
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

func lengths(batches [][]birthday.Person) (all []int) {
	for _, batch := range batches {
		all = append(all, len(batch))
	}
	return all
}

func TestSortComparesWholeNames(t *testing.T) {
	s := newSorter(t.Context(), 2, t.TempDir())
	defer s.close()
	names := []string{"abcdefghb", "abcdefgh", "é", "abcdefgha", "b", "ab", "a"}
	for _, name := range names {
		require.NoError(t, s.add(storetest.Person(name, "9999-12-31")))
	}
	var got []string
	for p, err := range s.sorted() {
		require.NoError(t, err)
		require.Equal(t, storetest.Person(p.Username, "9999-12-31"), p)
		got = append(got, string(p.Username))
	}
	slices.Sort(names)
	require.Equal(t, names, got)
}

func TestSortOfNobody(t *testing.T) {
	s := newSorter(t.Context(), 2, t.TempDir())
	for p, err := range s.sorted() {
		require.Fail(t, "there is nobody", "%v, %v", p, err)
	}
	s.close()
}

// TestImportInOrder puts people as they come, until somebody does not come in order.
func TestImportInOrder(t *testing.T) {
	kept := &commits{left: 10}
	var inOrder []birthday.Person
	for i := range 250 {
		inOrder = append(inOrder, storetest.Person(storetest.Username(i), "1990-05-17"))
	}
	again := storetest.Person(storetest.Username(249), "1991-05-17")
	before := storetest.Person(storetest.Username(7), "1991-05-17")
	file := filepath.Join(t.TempDir(), "file") // and no folder, which nobody needs
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	report, err := importPeople(t.Context(), kept, storetest.Stream(append(inOrder, again, before), nil),
		importPlan{inMemory: 1000, committed: 100, folder: file})
	require.NoError(t, err)
	require.Equal(t, 252, report.Taken)
	require.Equal(t, [][]birthday.Person{inOrder[:100], inOrder[100:200], slices.Concat([]birthday.Person{before}, inOrder[200:249], []birthday.Person{again})}, kept.made)
}

// TestImportInParts is what a service without a folder does.
func TestImportInParts(t *testing.T) {
	kept := &commits{left: 10}
	report, err := importPeople(t.Context(), kept, shuffled(1000), importPlan{inMemory: 600, committed: 400})
	require.NoError(t, err)
	require.Equal(t, 1500, report.Taken)
	require.Equal(t, []int{400, 200, 400, 150, 300}, lengths(kept.made), "50 names are twice in the second part")
	last := make(map[birthday.Username]int)
	for _, p := range slices.Concat(kept.made...) {
		last[p.Username] = p.Born.Year
	}
	for i := range 1000 {
		year := 1990
		if i < 500 {
			year = 1991
		}
		require.Equal(t, year, last[storetest.Username(i)], "the last of a name wins")
	}
}

// TestAnImportThatFailsStops wants the fault, what is kept, and no goroutine that
// waits for ever.
func TestAnImportThatFailsStops(t *testing.T) {
	plan := importPlan{inMemory: 100, committed: 300, folder: t.TempDir()}

	report, err := importPeople(t.Context(), &commits{left: 1}, shuffled(1000), plan)
	require.ErrorIs(t, err, errCommit)
	require.ErrorContains(t, err, "people who are kept already: 300; ")
	require.Equal(t, 300, report.Taken)

	ctx, cancel := context.WithCancel(t.Context())
	kept := &commits{left: 10}
	_, err = importPeople(ctx, kept, func(yield func(birthday.Person, error) bool) {
		for p, err := range shuffled(1000) {
			if p.Username == storetest.Username(400) {
				cancel()
			}
			if !yield(p, err) {
				return
			}
		}
	}, plan)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, kept.made)

	plan.folder = filepath.Join(t.TempDir(), "file") // which is no folder
	require.NoError(t, os.WriteFile(plan.folder, nil, 0o600))
	_, err = importPeople(t.Context(), kept, shuffled(100_000), plan)
	require.ErrorIs(t, err, birthday.ErrUnavailable)
	require.ErrorContains(t, err, "sort people in a temporary file in "+plan.folder+": not a directory; make space there")
	require.Empty(t, kept.made)
}

// interrupted is a store that has its import end after a commit.
type interrupted struct {
	commits
	end context.CancelFunc
}

func (i *interrupted) PutAll(ctx context.Context, people []birthday.Person) error {
	defer i.end()
	return i.commits.PutAll(ctx, people)
}

// TestAnImportThatEndsWhileItMerges must not take the end for that of the people.
func TestAnImportThatEndsWhileItMerges(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	kept := &interrupted{commits{left: 1000}, cancel}
	report, err := importPeople(ctx, kept, shuffled(20_000), importPlan{inMemory: 1000, committed: 100, folder: t.TempDir()})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "people who are kept already: ")
	require.Less(t, report.Taken, 20_000)
}

// TestAnImportWithABrokenEndKeepsTheRest wants those before a fault of the input,
// and a fault of the store rather than that.
func TestAnImportWithABrokenEndKeepsTheRest(t *testing.T) {
	people, broken := []birthday.Person{storetest.Person("bob", "1990-05-17"), storetest.Person("ana", "1990-05-17")}, errors.New("line 3 is broken")
	plan := importPlan{inMemory: 100, committed: 100, folder: t.TempDir()}
	kept := &commits{left: 1}
	report, err := importPeople(t.Context(), kept, storetest.Stream(people, broken), plan)
	require.ErrorIs(t, err, admin.ErrInput)
	require.ErrorIs(t, err, broken)
	require.Equal(t, 2, report.Taken)
	require.Equal(t, []int{2}, lengths(kept.made))

	_, err = importPeople(t.Context(), kept, storetest.Stream(people, broken), plan)
	require.ErrorIs(t, err, errCommit)
	require.NotErrorIs(t, err, admin.ErrInput)
	require.ErrorContains(t, err, "line 3 is broken")
}

func TestADamagedEntryIsNoPerson(t *testing.T) {
	_, err := decodeEntry([]byte("short"))
	require.ErrorIs(t, err, errEntry)
}
