package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"birthday-demo/app/httpd"
)

// guard protects what tells more than figures: from other machines, and from web
// pages that the operator's own browser shows.
func (c Config) guard(next httpd.Handler) httpd.Handler {
	switch {
	case c.Tokens != nil:
		next = httpd.RequireToken(next, []*httpd.Tokens{c.Tokens})
	case c.Loopback:
		next = requireLocalHost(next)
	default:
		return func(http.ResponseWriter, *http.Request) error {
			return forbidden("this needs --admin-tokens-file, since the port is not on a loopback address")
		}
	}
	return refusePages(next)
}

// refusePages refuses what a browser asks for on behalf of another site: by
// Sec-Fetch-Site or, in older browsers, by Origin, which other clients do not send. To
// read is no safer than to change something here.
func refusePages(next httpd.Handler) httpd.Handler {
	pages := http.NewCrossOriginProtection()
	return func(w http.ResponseWriter, r *http.Request) error {
		change := *r
		change.Method = http.MethodPost // it lets pass what only reads
		if pages.Check(&change) != nil {
			return forbidden("web pages may not ask for this")
		}
		return next(w, r)
	}
}

// requireLocalHost refuses names that a web site may have pointed at this
// machine (DNS rebinding).
func requireLocalHost(next httpd.Handler) httpd.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil { // there is no port
			host = strings.TrimSuffix(strings.TrimPrefix(r.Host, "["), "]")
		}
		ip, err := netip.ParseAddr(host)
		if strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback() {
			return next(w, r)
		}
		return forbidden("ask for localhost, or set --admin-tokens-file")
	}
}

func forbidden(detail string) error {
	return &httpd.Refusal{Status: http.StatusForbidden, Detail: detail}
}
