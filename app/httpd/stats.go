package httpd

import (
	"net/http"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Stats sums up the requests of a port since its start, in a fixed amount of
// memory: times are kept in a histogram from 1 µs to 1 minute, exact to 1 %.
type Stats struct {
	mu      sync.Mutex
	times   *hdrhistogram.Histogram // in microseconds
	total   time.Duration
	success int64
	errors  int64
}

const longestTime = time.Minute

// NewStats makes empty statistics.
func NewStats() *Stats {
	return &Stats{times: hdrhistogram.New(1, longestTime.Microseconds(), 2)}
}

func (s *Stats) count(status int, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status >= http.StatusOK && status < http.StatusBadRequest {
		s.success++
	} else {
		s.errors++
	}
	s.total += took
	_ = s.times.RecordValue(min(max(took, time.Microsecond), longestTime).Microseconds()) // in range, so never an error
}

// Summary is what the statistics say, in the shape of the JSON answer.
type Summary struct {
	Requests struct {
		Success int64 `json:"success"` // answered with 200 to 399
		Error   int64 `json:"error"`
	} `json:"requests_count"`
	Latency struct {
		Average float64 `json:"average"`
		P95     float64 `json:"p95"`
		P99     float64 `json:"p99"`
	} `json:"latency_ms"`
}

// Summary reads the statistics; all is 0 before the first request.
func (s *Stats) Summary() (sum Summary) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum.Requests.Success, sum.Requests.Error = s.success, s.errors
	if n := s.success + s.errors; n > 0 {
		sum.Latency.Average = float64(s.total.Microseconds()) / float64(n) / 1000
		sum.Latency.P95 = float64(s.times.ValueAtQuantile(95)) / 1000
		sum.Latency.P99 = float64(s.times.ValueAtQuantile(99)) / 1000
	}
	return sum
}
