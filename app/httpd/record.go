package httpd

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// kind is what tells requests apart in logs and metrics. All comes from fixed
// sets: route templates, known methods, statuses.
type kind struct {
	route, method string
	status        int
}

// book is where the requests of a kind are noted: their metrics, and a log that
// has already written what their lines have in common.
type book struct {
	log     slog.Handler
	count   prometheus.Counter
	seconds prometheus.Observer
}

// books finds the book of a kind. Most requests are of few kinds, and what is the
// same for all of a kind is a good part of the work of noting one.
type books struct {
	mu     sync.RWMutex
	byKind map[kind]*book
}

// book gives the book of a kind, opened by the first request of it.
func (s *service) book(k kind) *book {
	s.books.mu.RLock()
	b := s.books.byKind[k]
	s.books.mu.RUnlock()
	if b != nil {
		return b
	}
	b = &book{log: s.Log.Handler().WithAttrs([]slog.Attr{
		slog.String("method", k.method),
		slog.String("route", k.route),
		slog.Int("status", k.status),
	})}
	if s.Metrics != nil {
		b.count, b.seconds = s.Metrics.of(k)
	}
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	if s.books.byKind == nil {
		s.books.byKind = make(map[kind]*book)
	}
	s.books.byKind[k] = b // or another of the same, which is as good
	return b
}

// finish counts the request and writes its line. The template stands for the
// path, which holds a username; the query, which may hold a birth date, is left
// out. The client's address is named only where it is of use against abuse.
func (x *exchange) finish(took time.Duration) {
	status := x.status
	if status == 0 {
		status = http.StatusOK // net/http sends it when nothing was written
	}
	s := x.service
	b := s.book(kind{x.route, knownMethod(x.request.Method), status})
	if b.count != nil {
		b.count.Inc()
		b.seconds.Observe(took.Seconds())
	}
	if s.Stats != nil {
		s.Stats.count(status, took)
	}
	level := s.AccessLevel
	broken := x.cut && x.err != nil
	_, meant := x.err.(*Refusal) //nolint:errorlint // one that is wrapped has a cause to tell
	switch {
	case status >= http.StatusInternalServerError && !meant:
		level = slog.LevelError
	case broken && !x.gone:
		level = slog.LevelError
	case broken:
		level = max(level, slog.LevelWarn)
	}
	ctx := context.Background() // the request's may be over
	if !b.log.Enabled(ctx, level) {
		return
	}
	line := slog.NewRecord(x.start.Add(took), level, "request", 0) // a Logger would look for its caller, which is always this
	line.AddAttrs(slog.Int64("us", took.Microseconds()), slog.String("request_id", x.id))
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		line.AddAttrs(slog.String("client", s.Client(x.request).String()))
	}
	if broken || x.err != nil && status >= statusClientGone {
		line.AddAttrs(slog.String("error", x.err.Error()))
	}
	_ = b.log.Handle(ctx, line) // a log that cannot be written has nobody to tell
}

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodPatch,
	http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace,
}

// knownMethod keeps the set of methods in logs and metrics small.
func knownMethod(method string) string {
	if i := slices.Index(methods, method); i >= 0 {
		return methods[i] // which is no part of a request that would be kept with it
	}
	return "other"
}
