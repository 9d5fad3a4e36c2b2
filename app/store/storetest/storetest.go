// Package storetest proves that a birthday.Store keeps its contract. Every
// store runs the same tests, so that a program may change its store without
// changing its promises.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
)

// Run tests the stores that open makes. Each call of open gives a new, empty
// store; Run closes it.
func Run(t *testing.T, open func(t *testing.T) birthday.Store) {
	tests := []struct {
		name string
		test func(t *testing.T, s birthday.Store)
	}{
		{"a stranger is not found", testStranger},
		{"what was put is got", testPutGet},
		{"the last put wins", testLastPutWins},
		{"names are told apart by every byte", testDistinctNames},
		{"a deleted person is a stranger", testDelete},
		{"pages are in the order of names", testAfter},
		{"an acknowledged put is seen by the next get", testReadYourWrites},
		{"concurrent writers lose nothing", testConcurrentWriters},
		{"a random history equals a map", testModel},
		{"a cancelled write is not made", testCancelled},
		{"a working store answers ping", testPing},
		{"a closed store is unavailable", testClosed},
		{"closing in mid-traffic answers every writer", testCloseInTraffic},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			defer func() { require.NoError(t, s.Close()) }()
			tt.test(t, s)
		})
	}
}

// Person makes a person. It panics when born is no date.
func Person[S ~string](name S, born string) birthday.Person {
	date, err := birthday.ParseDate(born)
	if err != nil {
		panic(err)
	}
	return birthday.Person{Username: birthday.Username(name), Born: date}
}

// Username makes a distinct username of eight letters of each number below 26^8; they
// are in the order of the numbers.
func Username(n int) birthday.Username {
	text := []byte("aaaaaaaa")
	for i := len(text) - 1; n > 0; i, n = i-1, n/26 {
		text[i] += byte(n % 26)
	}
	return birthday.Username(text)
}

// Stream gives people and then an error, unless it is nil.
func Stream(all []birthday.Person, err error) iter.Seq2[birthday.Person, error] {
	return func(yield func(birthday.Person, error) bool) {
		for _, p := range all {
			if !yield(p, nil) {
				return
			}
		}
		if err != nil {
			yield(birthday.Person{}, err)
		}
	}
}

// letter is the name of the n-th of a few people.
func letter(n int) birthday.Username { return birthday.Username("abcdefghijklmnopqrstuvwxyz"[n : n+1]) }

func put(t *testing.T, s birthday.Store, people ...birthday.Person) {
	t.Helper()
	for _, p := range people {
		require.NoError(t, s.Put(t.Context(), p))
	}
}

func testStranger(t *testing.T, s birthday.Store) {
	_, err := s.Get(t.Context(), "ana")
	require.ErrorIs(t, err, birthday.ErrNotFound)
	require.ErrorIs(t, s.Delete(t.Context(), "ana"), birthday.ErrNotFound)
	people, err := s.After(t.Context(), "", 10)
	require.NoError(t, err)
	require.Empty(t, people)
}

func testPutGet(t *testing.T, s birthday.Store) {
	people := []birthday.Person{
		Person("ana", "1990-05-17"),
		Person("first", "0001-01-01"),
		Person("last", "9999-12-31"),
		Person("leap", "2000-02-29"),
		Person("さくら", "1970-01-01"),
		Person(strings.Repeat("𐌰", birthday.MaxUsername), "1969-12-31"),
	}
	put(t, s, people...)
	for _, want := range people {
		got, err := s.Get(t.Context(), want.Username)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func testLastPutWins(t *testing.T, s birthday.Store) {
	put(t, s, Person("ana", "1990-05-17"), Person("ana", "1991-06-18"), Person("ana", "1991-06-18"))
	got, err := s.Get(t.Context(), "ana")
	require.NoError(t, err)
	require.Equal(t, Person("ana", "1991-06-18"), got)
	people, err := s.After(t.Context(), "", 10)
	require.NoError(t, err)
	require.Len(t, people, 1)
}

func testDistinctNames(t *testing.T, s birthday.Store) {
	names := []string{"a", "A", "aa", "á", "ana", "Ana", "ANA", "an", "anaa", "ä", "ａ"}
	for i, name := range names {
		put(t, s, Person(name, fmt.Sprintf("1990-01-%02d", i+1)))
	}
	for i, name := range names {
		got, err := s.Get(t.Context(), birthday.Username(name))
		require.NoError(t, err)
		require.Equal(t, Person(name, fmt.Sprintf("1990-01-%02d", i+1)), got)
	}
}

func testDelete(t *testing.T, s birthday.Store) {
	put(t, s, Person("ana", "1990-05-17"), Person("bob", "1990-05-18"))
	require.NoError(t, s.Delete(t.Context(), "ana"))
	_, err := s.Get(t.Context(), "ana")
	require.ErrorIs(t, err, birthday.ErrNotFound)
	require.ErrorIs(t, s.Delete(t.Context(), "ana"), birthday.ErrNotFound)
	_, err = s.Get(t.Context(), "bob")
	require.NoError(t, err, "a neighbour stays")
	put(t, s, Person("ana", "1991-06-18"))
	got, err := s.Get(t.Context(), "ana")
	require.NoError(t, err)
	require.Equal(t, Person("ana", "1991-06-18"), got)
}

func testAfter(t *testing.T, s birthday.Store) {
	for _, name := range []string{"d", "b", "ä", "a", "Z", "c"} {
		put(t, s, Person(name, "1990-05-17"))
	}
	page := func(after birthday.Username, limit int) (names string) {
		people, err := s.After(t.Context(), after, limit)
		require.NoError(t, err)
		for _, p := range people {
			require.Equal(t, Person(p.Username, "1990-05-17"), p)
			names += string(p.Username)
		}
		return names
	}
	require.Equal(t, "Zabcdä", page("", 10))
	require.Equal(t, "Za", page("", 2))
	require.Equal(t, "bc", page("a", 2))
	require.Equal(t, "dä", page("c", 2))
	require.Equal(t, "bcdä", page("aa", 10), "from a name that nobody has")
	require.Empty(t, page("ä", 10))
}

func testReadYourWrites(t *testing.T, s birthday.Store) {
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			name := string(letter(n))
			for day := 1; day <= 20; day++ {
				want := Person(name, fmt.Sprintf("1990-05-%02d", day))
				if err := s.Put(context.Background(), want); err != nil {
					t.Errorf("put: %v", err)
				}
				if got, err := s.Get(context.Background(), want.Username); err != nil || got != want {
					t.Errorf("got %v, %v after putting %v", got, err, want)
				}
			}
		})
	}
	all.Wait()
}

func testConcurrentWriters(t *testing.T, s birthday.Store) {
	const writers, each = 32, 20
	name := func(writer, i int) string {
		return "w" + strings.Repeat("a", writer) + "b" + strings.Repeat("c", i)
	}
	var all sync.WaitGroup
	for writer := range writers {
		all.Go(func() {
			for i := range each {
				if err := s.Put(context.Background(), Person(name(writer, i), "1990-05-17")); err != nil {
					t.Errorf("put: %v", err)
				}
			}
		})
	}
	all.Wait()
	people, err := s.After(t.Context(), "", writers*each+1)
	require.NoError(t, err)
	require.Len(t, people, writers*each)
	require.True(t, slices.IsSortedFunc(people, func(a, b birthday.Person) int {
		return strings.Compare(string(a.Username), string(b.Username))
	}))
}

// testModel does the same random things to the store and to a map.
func testModel(t *testing.T, s birthday.Store) {
	seed := rand.Uint64() //nolint:gosec // chance needs no secrecy
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's choices need no secrecy
	model := map[birthday.Username]birthday.Person{}
	for range 300 {
		name := letter(random.IntN(8))
		want, known := model[name]
		switch random.IntN(3) {
		case 0:
			p := Person(name, fmt.Sprintf("%04d-01-01", 1+random.IntN(2000)))
			put(t, s, p)
			model[name] = p
		case 1:
			err := s.Delete(t.Context(), name)
			require.Equal(t, known, err == nil, "%v", err)
			require.True(t, known || errors.Is(err, birthday.ErrNotFound))
			delete(model, name)
		default:
			got, err := s.Get(t.Context(), name)
			require.Equal(t, known, err == nil, "%v", err)
			require.Equal(t, want, got)
		}
	}
	people, err := s.After(t.Context(), "", 100)
	require.NoError(t, err)
	require.Len(t, people, len(model))
}

func testCancelled(t *testing.T, s birthday.Store) {
	put(t, s, Person("ana", "1990-05-17"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Put(ctx, Person("ana", "1991-06-18")), context.Canceled)
	require.ErrorIs(t, s.Delete(ctx, "ana"), context.Canceled)
	got, err := s.Get(t.Context(), "ana")
	require.NoError(t, err)
	require.Equal(t, Person("ana", "1990-05-17"), got)
}

func testPing(t *testing.T, s birthday.Store) {
	require.NoError(t, s.Ping(t.Context()))
	put(t, s, Person("ana", "1990-05-17"))
	require.NoError(t, s.Ping(t.Context()))
}

func testClosed(t *testing.T, s birthday.Store) {
	put(t, s, Person("ana", "1990-05-17"))
	require.NoError(t, s.Close())
	_, getErr := s.Get(t.Context(), "ana")
	_, afterErr := s.After(t.Context(), "", 1)
	for call, err := range map[string]error{
		"put":    s.Put(t.Context(), Person("bob", "1990-05-17")),
		"get":    getErr,
		"delete": s.Delete(t.Context(), "ana"),
		"after":  afterErr,
		"ping":   s.Ping(t.Context()),
	} {
		require.ErrorIs(t, err, birthday.ErrUnavailable, call)
	}
}

func testCloseInTraffic(t *testing.T, s birthday.Store) {
	var all sync.WaitGroup
	started := make(chan struct{}, 1000)
	for writer := range 16 {
		all.Go(func() {
			for {
				err := s.Put(context.Background(), Person(letter(writer), "1990-05-17"))
				if err != nil {
					if !errors.Is(err, birthday.ErrUnavailable) {
						t.Errorf("put: %v", err)
					}
					return
				}
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 20 {
		<-started
	}
	require.NoError(t, s.Close())
	all.Wait()
}
