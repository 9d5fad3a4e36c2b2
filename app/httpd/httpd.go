// Package httpd is what every HTTP port of ours needs, whatever it serves: one
// wrapper that counts, logs and guards each request, refusals that each service
// words in its own format, bearer tokens, the client's address behind proxies,
// statistics, and a server that starts and drains without dropping a request.
// It knows nothing of birthdays, stores or settings.
package httpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Handler answers a request, or gives the error why not; then it must not have
// written anything.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Config says how a service wants its requests wrapped.
type Config struct {
	// Refuse writes the answer for an error, in the service's format. It knows
	// *Refusal and the service's own errors; the rest is a 500. Nil answers in
	// plain text.
	Refuse func(w http.ResponseWriter, r *http.Request, err error)
	// Log takes one line a request, at AccessLevel or, when the service failed,
	// as an error.
	Log         *slog.Logger
	AccessLevel slog.Level
	// Metrics and Stats count requests; nil counts nothing.
	Metrics *Metrics
	Stats   *Stats
	// Client gives the address of the client; nil takes the connection's.
	Client func(*http.Request) netip.Addr
	// MaxInFlight is how many requests may be at work at once, RateLimit how
	// many a client may make in a second; 0 is without limit.
	MaxInFlight int
	RateLimit   int
	// StallTimeout ends a request of whose body nothing came, or of whose
	// answer nothing could be written, for so long; 0 leaves that to the server.
	StallTimeout time.Duration
}

// service is a Config at work.
type service struct {
	Config
	next     http.Handler
	limit    *rateLimit
	inFlight atomic.Int64
	books    books
}

// Wrap gives next everything that all requests of a port have in common. Below
// it, Route says which template a request belongs to.
func Wrap(next http.Handler, c Config) http.Handler {
	if c.Refuse == nil {
		c.Refuse = refuseAsText
	}
	if c.Client == nil {
		c.Client = ClientAddress(nil)
	}
	s := &service{Config: c, next: next, limit: newRateLimit(c.RateLimit)}
	if c.Metrics != nil {
		c.Metrics.watchInFlight(&s.inFlight)
	}
	return s
}

// ServeHTTP does in one place what a chain of middleware would do in ten: a
// request passes one wrapper and one writer.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{ResponseWriter: w, service: s, request: r, start: time.Now(), id: requestID(r), route: unknownRoute}
	header := w.Header()
	header["X-Request-Id"] = []string{x.id}
	header["Cache-Control"] = noStore
	header["X-Content-Type-Options"] = noSniff
	if s.StallTimeout > 0 {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // the last request's; a connection that knows none goes without
	}
	if r.Body != nil && r.Body != http.NoBody {
		x.body = &body{ReadCloser: r.Body, conn: http.NewResponseController(w), stall: s.StallTimeout}
		r.Body = x.body
	}
	inFlight := s.inFlight.Add(1)
	defer func() {
		v := recover()
		if v != nil {
			x.recovered(v)
		}
		s.inFlight.Add(-1)
		x.finish(time.Since(x.start))
		if x.cut {
			panic(http.ErrAbortHandler) // net/http closes the connection and logs nothing
		}
	}()
	switch {
	case s.MaxInFlight > 0 && inFlight > int64(s.MaxInFlight):
		x.refuse(&Refusal{Status: http.StatusServiceUnavailable, Detail: "too many requests at once; try again in a moment", RetryAfter: time.Second})
	case s.limit.exceeded(r, s.Client):
		x.refuse(&Refusal{Status: http.StatusTooManyRequests, Detail: "too many requests from your address; try again in a moment", RetryAfter: time.Second})
	default:
		s.next.ServeHTTP(x, r)
	}
}

// Headers that every answer has. Nobody changes the slices in place: to add to a
// header copies them.
var (
	noStore = []string{"no-store"}
	noSniff = []string{"nosniff"}
)

// unknownRoute labels requests that belong to no template.
const unknownRoute = "other"

// refusalTimeout is what a refusal gets to be sent.
const refusalTimeout = time.Second

// statusClientGone is what the log and the metrics say when the client did not
// wait for its answer. It is nginx's number; nothing is sent with it.
const statusClientGone = 499

// exchange is one request and its answer. Handlers below Wrap get it as their
// ResponseWriter; http.ResponseController finds the real one by Unwrap.
type exchange struct {
	http.ResponseWriter
	service *service
	request *http.Request
	start   time.Time
	id      string // of the request
	route   string // the template
	body    *body  // nil when the request has none
	status  int    // 0 until the header is written
	err     error  // why the request was refused
	cut     bool   // the answer broke off after its header
	gone    bool   // because the client had left, or the service stops
}

// Unwrap gives the writer below, for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// WriteHeader notes the status.
func (x *exchange) WriteHeader(status int) {
	if status >= 200 && x.status == 0 { // 1xx are only announcements
		x.begin(status)
	}
	x.ResponseWriter.WriteHeader(status)
}

// begin notes the status. Where the body was not read to its end the connection
// is to be closed: else net/http would wait for the rest before it sends the
// answer, and the time for that may be over by then.
func (x *exchange) begin(status int) {
	x.status = status
	if x.body != nil && !x.body.ended {
		x.Header().Set("Connection", "close")
	}
}

// Write gives this write its time, where a stalled answer is to be ended.
func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.begin(http.StatusOK)
	}
	if d := x.service.StallTimeout; d > 0 {
		deadline := time.Now().Add(d)
		if err := http.NewResponseController(x.ResponseWriter).SetWriteDeadline(deadline); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			x.gone = true
			return 0, fmt.Errorf("set the time-out of a write: %w", err)
		}
	}
	n, err := x.ResponseWriter.Write(b)
	ours := errors.Is(err, http.ErrContentLength) || errors.Is(err, http.ErrBodyNotAllowed)
	x.gone = x.gone || err != nil && !ours
	return n, err
}

// refuse answers with the service's format for err.
func (x *exchange) refuse(err error) {
	x.err = err
	if x.status != 0 { // too late for another answer
		x.cut = true
		x.gone = x.gone || x.request.Context().Err() != nil
		return
	}
	if x.body != nil { // the time to answer may have ended with the time to send it
		_ = http.NewResponseController(x.ResponseWriter).SetWriteDeadline(time.Now().Add(refusalTimeout))
	}
	x.service.Refuse(x, x.request, err)
	if errors.Is(err, context.Canceled) && x.request.Context().Err() != nil {
		x.status = statusClientGone
	}
}

// recovered makes a refusal of a panic; the stack shows where.
func (x *exchange) recovered(v any) {
	if v == http.ErrAbortHandler { //nolint:errorlint // the documented way to abort, never wrapped
		x.cut = true
		return
	}
	what := PanicText(v)
	x.service.Log.Error("panic", "request_id", x.id, "route", x.route, "panic", what, "stack", string(debug.Stack()))
	x.refuse(fmt.Errorf("panic with %s", what))
}

// PanicText says what a panic was about. Its value may hold what a client sent, so
// only an error of the run-time is told; of others, the type is.
func PanicText(v any) string {
	if e, ok := v.(runtime.Error); ok {
		return e.Error()
	}
	return fmt.Sprintf("a %T", v)
}
