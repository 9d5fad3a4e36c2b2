package httpd

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"
)

// Refusal is an error that this package answers with, or that a service may.
type Refusal struct {
	Status     int           // of HTTP, 400 or more
	Detail     string        // one sentence for the client
	RetryAfter time.Duration // when it may try again; 0 says nothing
	Challenge  string        // how to authenticate, for 401
}

// Error gives the detail.
func (e *Refusal) Error() string { return e.Detail }

// SetHeaders sets the headers that go with the refusal, whatever its format:
// Retry-After in whole seconds, rounded up (RFC 9110, section 10.2.3), and
// WWW-Authenticate.
func (e *Refusal) SetHeaders(h http.Header) {
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	if e.Challenge != "" {
		h.Set("WWW-Authenticate", e.Challenge)
	}
}

// refuseAsText answers in plain text.
func refuseAsText(w http.ResponseWriter, _ *http.Request, err error) {
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		refusal = &Refusal{Status: http.StatusInternalServerError, Detail: "something went wrong; see the log, request " + RequestID(w)}
	}
	refusal.SetHeaders(w.Header())
	http.Error(w, refusal.Detail, refusal.Status)
}

// RequestID gives the id of the request that w answers.
func RequestID(w http.ResponseWriter) string { return w.Header().Get("X-Request-Id") }

// LimitBody refuses a body of more than limit bytes with 413: at once when its
// length was announced, else while the handler reads it.
func LimitBody(limit int64, next Handler) Handler {
	tooLarge := &Refusal{
		Status: http.StatusRequestEntityTooLarge,
		Detail: "the body may have at most " + strconv.FormatInt(limit, 10) + " bytes",
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.ContentLength > limit {
			w.Header().Set("Connection", "close") // what it sends is not read
			return tooLarge
		}
		if r.Body != nil && r.Body != http.NoBody {
			// It wants net/http's own writer, to tell it that the connection must end.
			r.Body = http.MaxBytesReader(mustExchange(w).ResponseWriter, r.Body, limit)
		}
		err := next(w, r)
		if err == nil {
			return nil
		}
		var read *http.MaxBytesError
		if errors.As(err, &read) {
			return tooLarge
		}
		return err
	}
}
