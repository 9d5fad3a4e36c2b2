// Package api is the public port: the routes of the hello API, what they read
// from a request and what they answer, to the byte. It knows people through
// birthday.Store, and neither settings nor which store it is.
package api

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"birthday-demo/app/birthday"
	"birthday-demo/app/httpd"
)

// Config is what the API needs.
type Config struct {
	Store          birthday.Store
	Now            func() time.Time // the clock
	Zone           *time.Location   // where today is, unless a request asks for another one
	LeapDay        birthday.LeapDay
	ASCIIUsernames bool   // narrows usernames to ASCII letters
	BasePath       string // all routes are below it; "" or like "/x"

	// Tokens for writing, and for reading; nil lets everybody.
	WriteTokens, ReadTokens *httpd.Tokens

	HTTP     httpd.Config // all but Refuse, which is the API's own
	Registry prometheus.Registerer
}

// server is a Config at work.
type server struct {
	Config
	zones     *birthday.Zones
	refusals  *prometheus.CounterVec
	strangers prometheus.Counter
}

// New gives the handler of the public port, and registers its metrics.
func New(c Config) http.Handler {
	s := &server{
		Config: c,
		zones:  birthday.NewZones(),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "birthday_refusals_total",
			Help: "Faults in what clients sent, by code; a request may have several.",
		}, []string{"code"}),
		strangers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "birthday_strangers_total",
			Help: "Requests for usernames that nobody has.",
		}),
	}
	for _, code := range []birthday.Code{birthday.InvalidBody, birthday.InvalidDate, birthday.InvalidTimezone, birthday.InvalidUsername} {
		s.refusals.WithLabelValues(string(code)) // from the start, for alerts
	}
	c.Registry.MustRegister(s.refusals, s.strangers)
	s.HTTP.Refuse = s.refuse
	return httpd.Wrap(dispatch(s.routes()), s.HTTP)
}

// today is the current day in a zone.
func (s *server) today(zone *time.Location) birthday.Date {
	return birthday.DateOf(s.Now().In(zone))
}
