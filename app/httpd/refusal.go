package httpd

import (
	"bytes"
	"errors"
	"io"
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

// LimitBody refuses a body of more than limit bytes with 413, by its length where
// that was announced, else when it was read.
func LimitBody(limit int64, next Handler) Handler {
	tooLarge := &Refusal{
		Status: http.StatusRequestEntityTooLarge,
		Detail: "the body may have at most " + strconv.FormatInt(limit, 10) + " bytes",
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		switch {
		case r.ContentLength > limit:
			return tooLarge
		case r.ContentLength < 0 && !readAhead(w, r, limit):
			return tooLarge
		}
		return next(w, r)
	}
}

// readAhead reads a body whose length was not announced, and says whether it
// keeps to the limit. The handler gets what was read, and the same error at its
// end.
func readAhead(w http.ResponseWriter, r *http.Request, limit int64) bool {
	// It wants net/http's own writer, to tell it that the connection must end.
	limited := http.MaxBytesReader(mustExchange(w).ResponseWriter, r.Body, limit)
	text, err := io.ReadAll(limited)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return false
	}
	rest := io.Reader(http.NoBody)
	if err != nil {
		rest = brokenBody{err}
	}
	r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(text), rest))
	return true
}

// brokenBody gives the error that reading ended with.
type brokenBody struct{ err error }

// Read gives the error.
func (b brokenBody) Read([]byte) (int, error) { return 0, b.err }
