package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/store/storetest"
)

// BenchmarkPut puts people who are there already, by a number of clients: into the
// store, and by one upsert each on the same pool.
func BenchmarkPut(b *testing.B) {
	server := pgtest.Start(b, pgtest.Options{}) // which syncs, as in production
	const people = 100_000
	s := open(b, server.URL(migrated(b, server)))
	for part := range slices.Chunk(crowd(people, 1990), people/4) {
		require.NoError(b, s.PutAll(context.Background(), part))
	}
	born := birthday.Date{Year: 1991, Month: time.June, Day: 18}
	day := time.Date(born.Year, born.Month, born.Day, 0, 0, 0, 0, time.UTC)
	nth := func(n int) birthday.Username { return name(n * 7919 % people) }
	// The first to touch a page after a checkpoint logs all of it: that must not be
	// always the same.
	checkpoint := func(b *testing.B) {
		require.NoError(b, server.Exec(context.Background(), "postgres", "CHECKPOINT"))
	}
	storetest.BenchmarkWays(b, checkpoint,
		storetest.Way{Name: "store", Put: func(n int) error {
			return s.Put(context.Background(), birthday.Person{Username: nth(n), Born: born})
		}},
		storetest.Way{Name: "upsert", Put: func(n int) error {
			_, err := s.Pool().Exec(context.Background(), postgres.UpsertOne, string(nth(n)), day)
			return err
		}},
	)
}

// BenchmarkGet gets people, by a number of clients.
func BenchmarkGet(b *testing.B) {
	s, _ := fresh(b)
	const people = 100_000
	require.NoError(b, s.PutAll(context.Background(), crowd(people, 1990)))
	for _, clients := range []int{1, 32} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			storetest.Share(b, clients, func(n int) error {
				_, err := s.Get(context.Background(), name(n*7919%people))
				return err
			})
		})
	}
}
