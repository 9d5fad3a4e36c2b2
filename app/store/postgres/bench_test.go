package postgres_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/store/postgres/pgtest"
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
	ways := []struct {
		name string
		put  func(birthday.Username) error
	}{
		{"store", func(name birthday.Username) error {
			return s.Put(context.Background(), birthday.Person{Username: name, Born: born})
		}},
		{"upsert", func(name birthday.Username) error {
			_, err := s.Pool().Exec(context.Background(), postgres.UpsertOne, string(name), day)
			return err
		}},
	}
	if os.Getenv("BENCH_REVERSE") != "" { // so that neither is always the first
		slices.Reverse(ways)
	}
	for _, clients := range []int{1, 32, 256} {
		for _, way := range ways {
			b.Run(fmt.Sprintf("clients=%d/%s", clients, way.name), func(b *testing.B) {
				// The first to touch a page after a checkpoint logs all of it: that
				// must not be always the same.
				require.NoError(b, server.Exec(context.Background(), "postgres", "CHECKPOINT"))
				putAll(b, clients, func(n int) error { return way.put(name(n * 7919 % people)) })
			})
		}
	}
}

// putAll has a number of clients share b.N puts, and reports how many a second
// and the 99th percentile.
func putAll(b *testing.B, clients int, put func(int) error) {
	var next, failures atomic.Int64
	var running sync.WaitGroup
	took := make([]time.Duration, b.N)
	b.ResetTimer()
	for range clients {
		running.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(took); n = int(next.Add(1)) - 1 {
				start := time.Now()
				if put(n) != nil {
					failures.Add(1)
				}
				took[n] = time.Since(start)
			}
		})
	}
	running.Wait()
	b.StopTimer()
	require.Zero(b, failures.Load())
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
	b.ReportMetric(float64(took[(len(took)-1)*99/100])/1e6, "p99-ms")
}

// BenchmarkGet gets people, by a number of clients.
func BenchmarkGet(b *testing.B) {
	s, _ := fresh(b)
	const people = 100_000
	require.NoError(b, s.PutAll(context.Background(), crowd(people, 1990)))
	for _, clients := range []int{1, 32} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			putAll(b, clients, func(n int) error {
				_, err := s.Get(context.Background(), name(n*7919%people))
				return err
			})
		})
	}
}
