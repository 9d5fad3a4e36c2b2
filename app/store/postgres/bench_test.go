package postgres_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/store/storetest"
)

const crowded = 100_000 // people in the database

// crowdedStore opens a store with people on a server that syncs, as in production.
func crowdedStore(b *testing.B) (*postgres.Store, *pgtest.Server) {
	b.Helper()
	server := pgtest.Start(b, pgtest.Options{})
	s := open(b, server.URL(migrated(b, server)))
	for part := range slices.Chunk(crowd(crowded, 1990), crowded/4) {
		require.NoError(b, s.PutAll(context.Background(), part))
	}
	return s, server
}

// scattered gives a person of the crowd for each number, neighbours far apart.
func scattered(n int) birthday.Username { return storetest.Username(n * 7919 % crowded) }

// BenchmarkPut puts people who are there already, by a number of clients: into the
// store, and by one upsert each on the same pool.
func BenchmarkPut(b *testing.B) {
	s, server := crowdedStore(b)
	born := birthday.Date{Year: 1991, Month: time.June, Day: 18}
	day := time.Date(born.Year, born.Month, born.Day, 0, 0, 0, 0, time.UTC)
	// The first to touch a page after a checkpoint logs all of it: that must not be
	// always the same.
	checkpoint := func(b *testing.B) {
		require.NoError(b, server.Exec(context.Background(), "postgres", "CHECKPOINT"))
	}
	storetest.BenchmarkWays(b, checkpoint,
		storetest.Way{Name: "store", Call: func(n int) error {
			return s.Put(context.Background(), birthday.Person{Username: scattered(n), Born: born})
		}},
		storetest.Way{Name: "upsert", Call: func(n int) error {
			_, err := s.Pool().Exec(context.Background(), postgres.UpsertOne, string(scattered(n)), day)
			return err
		}},
	)
}

// BenchmarkGet gets people, by a number of clients: from the store, and by the same
// query on the same pool.
func BenchmarkGet(b *testing.B) {
	s, _ := crowdedStore(b)
	storetest.BenchmarkWays(b, func(*testing.B) {},
		storetest.Way{Name: "store", Call: func(n int) error {
			_, err := s.Get(context.Background(), scattered(n))
			return err
		}},
		storetest.Way{Name: "query", Call: func(n int) error {
			var born time.Time
			return s.Pool().QueryRow(context.Background(), postgres.SelectOne, string(scattered(n))).Scan(&born)
		}},
	)
}
