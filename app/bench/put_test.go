package bench_test

import (
	"cmp"
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/storetest"
)

const people = 100_000

// username gives a different one for each number below 26^8, spread over the
// file: neighbours in number are none in the order of keys.
func username(n int) birthday.Username {
	const all = 26 * 26 * 26 * 26 * 26 * 26 * 26 * 26
	return storetest.Username(n * 88_888_888_889 % all)
}

// filled makes a store with people in it.
func filled(b *testing.B) (path string, s *bolt.Store) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "birthday.db")
	s, err := bolt.Open(path, bolt.Options{Failed: func(err error) { b.Error(err) }})
	require.NoError(b, err)
	all := make([]birthday.Person, people)
	for n := range all {
		all[n] = birthday.Person{Username: username(n), Born: birthday.Date{Year: 1990, Month: time.May, Day: 17}}
	}
	slices.SortFunc(all, func(x, y birthday.Person) int { return cmp.Compare(x.Username, y.Username) })
	require.NoError(b, s.PutAll(context.Background(), all))
	return path, s
}

// BenchmarkPut puts people who are there already, by a number of clients: into
// the store, and by one bbolt transaction each. Both sync before they return.
func BenchmarkPut(b *testing.B) {
	_, store := filled(b)
	defer func() { require.NoError(b, store.Close()) }()
	path, other := filled(b)
	require.NoError(b, other.Close())
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType, NoStatistics: true})
	require.NoError(b, err)
	defer func() { require.NoError(b, db.Close()) }()

	born := birthday.Date{Year: 1991, Month: time.June, Day: 18}
	record := make([]byte, 9) // as long as the store's
	nth := func(n int) birthday.Username { return username(n * 7919 % people) }
	storetest.BenchmarkWays(b, func(*testing.B) {},
		storetest.Way{Name: "store", Call: func(n int) error {
			return store.Put(context.Background(), birthday.Person{Username: nth(n), Born: born})
		}},
		storetest.Way{Name: "update", Call: func(n int) error {
			return db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("people")).Put([]byte(nth(n)), record) })
		}},
	)
}

// BenchmarkRecorder is what a benchmark of a handler costs without the handler:
// the recorder copies the header, which has as many fields as an answer.
func BenchmarkRecorder(b *testing.B) {
	r := httptest.NewRequest("GET", "/hello/ana", nil)
	body := []byte(`{"message":"Hello, ana! Your birthday is in 123 day(s)"}`)
	fields, value := []string{"Cache-Control", "Content-Type", "X-Content-Type-Options", "X-Request-Id"}, []string{"x"}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, field := range fields {
			w.Header()[field] = value
		}
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(body)
	})
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
}
