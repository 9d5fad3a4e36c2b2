package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

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
	folder := t.TempDir()
	require.NoError(t, os.Remove(folder)) // which nobody needs
	report, err := importPeople(t.Context(), kept, func(yield func(birthday.Person, error) bool) {
		for _, p := range append(inOrder, again, before) {
			if !yield(p, nil) {
				return
			}
		}
	}, importPlan{inMemory: 1000, committed: 100, folder: folder})
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

	file := t.TempDir() + "/file"
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	plan.folder = file // which is none
	_, err = importPeople(t.Context(), kept, shuffled(1_000_000), plan)
	require.ErrorContains(t, err, "sort people: ")
	require.ErrorContains(t, err, file)
	require.Empty(t, kept.made)
}

func TestADamagedEntryIsNoPerson(t *testing.T) {
	_, err := decodeEntry([]byte("short"))
	require.ErrorIs(t, err, errEntry)
}
