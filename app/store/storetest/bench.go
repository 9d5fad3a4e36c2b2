package storetest

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Way is one of the ways to put or to get that a benchmark compares.
type Way struct {
	Name string
	Call func(n int) error // for the n-th person; n may come again
}

// BenchmarkWays has 1, 32 and 256 clients call each way, which come in turn. With
// BENCH_REVERSE the last comes first, so that none is always the first. before is
// called before each measurement.
func BenchmarkWays(b *testing.B, before func(b *testing.B), ways ...Way) {
	if os.Getenv("BENCH_REVERSE") != "" {
		slices.Reverse(ways)
	}
	for _, clients := range []int{1, 32, 256} {
		for _, way := range ways {
			b.Run(fmt.Sprintf("clients=%d/%s", clients, way.Name), func(b *testing.B) {
				before(b)
				share(b, clients, way.Call)
			})
		}
	}
}

// share has a number of clients share b.N calls, and reports how many a second and
// the 99th percentile.
func share(b *testing.B, clients int, call func(n int) error) {
	b.Helper()
	var next, failures atomic.Int64
	var running sync.WaitGroup
	took := make([]time.Duration, b.N)
	b.ResetTimer()
	for range clients {
		running.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(took); n = int(next.Add(1)) - 1 {
				start := time.Now()
				if call(n) != nil {
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
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
	b.ReportMetric(float64(took[(len(took)-1)*99/100])/1e6, "p99-ms")
}
