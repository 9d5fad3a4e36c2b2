package httpd

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ClientAddress gives a function that finds a request's client. It is the peer
// of the connection, unless that peer is a trusted proxy: then X-Forwarded-For
// is read from the right, and the first hop that is not trusted is the client.
// What stands further left was sent by the client itself and may be a lie.
func ClientAddress(trusted []netip.Prefix) func(*http.Request) netip.Addr {
	isTrusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return func(r *http.Request) netip.Addr {
		client, ok := parseHop(r.RemoteAddr)
		if !ok || !isTrusted(client) {
			return client
		}
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for _, text := range slices.Backward(hops) {
			hop, ok := parseHop(strings.TrimSpace(text))
			if !ok {
				break // the last trusted proxy did not know better
			}
			client = hop
			if !isTrusted(hop) {
				break
			}
		}
		return client
	}
}

// parseHop reads an address, with a port or without, as proxies write it.
func parseHop(text string) (netip.Addr, bool) {
	if hop, err := netip.ParseAddrPort(text); err == nil {
		return hop.Addr().Unmap().WithZone(""), true
	}
	hop, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return hop.Unmap().WithZone(""), err == nil
}
