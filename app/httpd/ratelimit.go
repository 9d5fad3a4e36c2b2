package httpd

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/go-chi/httprate"
)

// rateLimit counts the requests of each client in a sliding second. It
// remembers two seconds' worth of clients and no more.
type rateLimit struct{ limiter *httprate.RateLimiter }

// newRateLimit allows each client so many requests a second; 0 is no limit, and
// a nil *rateLimit.
func newRateLimit(perSecond int) *rateLimit {
	if perSecond <= 0 {
		return nil
	}
	return &rateLimit{httprate.NewRateLimiter(perSecond, time.Second,
		httprate.WithResponseHeaders(httprate.ResponseHeaders{}))} // the refusal sets Retry-After
}

// exceeded counts the request and says whether it is one too many. Clients with
// IPv6 are told apart by their /64, of which each usually has a whole one.
func (l *rateLimit) exceeded(r *http.Request, client func(*http.Request) netip.Addr) bool {
	if l == nil {
		return false
	}
	key := httprate.CanonicalizeIP(client(r).String())
	return l.limiter.OnLimit(nil, r, key) // the writer is only for the headers that are off
}
