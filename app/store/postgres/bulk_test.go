package postgres_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/storetest"
)

// pull makes an iterator of people one that is asked.
func pull(all iter.Seq2[birthday.Person, error]) (next func() (birthday.Person, error), stop func()) {
	ask, stop := iter.Pull2(all)
	return func() (birthday.Person, error) {
		p, err, more := ask()
		if !more && err == nil {
			err = errors.New("there are no more")
		}
		return p, err
	}, stop
}

// crowd makes n people, sorted.
func crowd(n, year int) []birthday.Person {
	people := make([]birthday.Person, n)
	for i := range people {
		people[i] = birthday.Person{Username: storetest.Username(i), Born: birthday.Date{Year: year, Month: time.May, Day: 17}}
	}
	return people
}

func TestImport(t *testing.T) {
	s, _ := fresh(t)
	const many, chunk = 50_000, 25_000
	people := crowd(many, 1990)
	for round, year := range []int{1990, 1991} { // the second replaces the first
		for i := range people {
			people[i].Born.Year = year
		}
		start := time.Now()
		for part := range slices.Chunk(people, chunk) {
			require.NoError(t, s.PutAll(t.Context(), part))
		}
		t.Logf("import %d: %.0f people/s", round+1, many/time.Since(start).Seconds())
	}
	start, i := time.Now(), 0
	for p, err := range s.All(t.Context()) {
		if err != nil || p != people[i] {
			require.Equal(t, people[i], p, "%v", err)
		}
		i++
	}
	require.Equal(t, many, i)
	t.Logf("export: %.0f people/s", many/time.Since(start).Seconds())
}

func TestImportAmongOthers(t *testing.T) {
	s, _ := fresh(t)
	people := crowd(100, 1990)
	require.NoError(t, s.PutAll(t.Context(), nil))
	require.NoError(t, s.PutAll(t.Context(), people[40:60]))
	for i := range people {
		people[i].Born.Year = 1991
	}
	for part := range slices.Chunk(people, 50) {
		require.NoError(t, s.PutAll(t.Context(), part))
	}
	got, err := s.After(t.Context(), "", 1000)
	require.NoError(t, err)
	require.Equal(t, people, got)
}

// TestImportsAtOnce has chunks meet others with the same names, just when nobody
// is there yet.
func TestImportsAtOnce(t *testing.T) {
	s, url := fresh(t)
	other := open(t, url)
	people := crowd(20_000, 1990)
	results := make(chan error, 4)
	for range 2 {
		for _, store := range []interface {
			PutAll(context.Context, []birthday.Person) error
		}{s, other} {
			go func() {
				var err error
				for part := range slices.Chunk(people, 2_000) {
					err = errors.Join(err, store.PutAll(context.Background(), part))
				}
				results <- err
			}()
		}
	}
	for range cap(results) {
		require.NoError(t, <-results)
	}
	require.Equal(t, len(people), query[int](t, url, "SELECT count(*) FROM people"))
}

func TestAnExportIsOfOneMoment(t *testing.T) {
	s, _ := fresh(t)
	people := crowd(12_000, 1990) // more than a page
	require.NoError(t, s.PutAll(t.Context(), people))
	next, stop := pull(s.All(t.Context()))
	defer stop()
	p, err := next()
	require.NoError(t, err)
	require.Equal(t, people[0], p)

	require.NoError(t, s.Delete(t.Context(), people[11_999].Username))
	require.NoError(t, s.Put(t.Context(), storetest.Person(strings.Repeat("z", 9), "1990-05-17")))
	for _, want := range people[1:] {
		p, err := next()
		require.NoError(t, err)
		require.Equal(t, want, p)
	}
	_, err = next()
	require.ErrorContains(t, err, "no more")
}

func TestAnExportEndsWithTheStore(t *testing.T) {
	s, _ := fresh(t)
	require.NoError(t, s.PutAll(t.Context(), crowd(6_000, 1990)))
	var err error
	for _, err = range s.All(t.Context()) {
		if err != nil {
			break
		}
		require.NoError(t, s.Close())
	}
	require.ErrorIs(t, err, birthday.ErrUnavailable)
	for _, err = range s.All(t.Context()) {
		require.ErrorIs(t, err, birthday.ErrUnavailable)
	}
}
