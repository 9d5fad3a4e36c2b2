package httpd_test

import (
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/httpd"
)

func TestClientAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	tests := []struct {
		what, peer string
		forwarded  []string
		want       string
	}{
		{"no proxy", "192.0.2.1:5", nil, "192.0.2.1"},
		{"a lie from the client", "192.0.2.1:5", []string{"198.51.100.7"}, "192.0.2.1"},
		{"a trusted proxy", "10.1.2.3:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"a lie before the proxy's word", "10.1.2.3:5", []string{"203.0.113.9, 198.51.100.7"}, "198.51.100.7"},
		{"two trusted proxies", "10.1.2.3:5", []string{"198.51.100.7, 10.9.9.9"}, "198.51.100.7"},
		{"several header lines", "10.1.2.3:5", []string{"203.0.113.9", "198.51.100.7", "10.9.9.9"}, "198.51.100.7"},
		{"only trusted hops", "10.1.2.3:5", []string{"10.8.8.8, 10.9.9.9"}, "10.8.8.8"},
		{"no header", "10.1.2.3:5", nil, "10.1.2.3"},
		{"an empty header", "10.1.2.3:5", []string{""}, "10.1.2.3"},
		{"garbage", "10.1.2.3:5", []string{"198.51.100.7, unknown"}, "10.1.2.3"},
		{"garbage behind a proxy", "10.1.2.3:5", []string{"unknown, 10.9.9.9"}, "10.9.9.9"},
		{"with a port", "10.1.2.3:5", []string{"198.51.100.7:4711"}, "198.51.100.7"},
		{"IPv6", "[fd00::1]:5", []string{"2001:db8::7"}, "2001:db8::7"},
		{"IPv6 in brackets", "[fd00::1]:5", []string{"[2001:db8::7]"}, "2001:db8::7"},
		{"IPv6 with a port", "[fd00::1]:5", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		{"IPv4 in IPv6 is IPv4", "[::ffff:10.1.2.3]:5", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		{"a zone is left out", "[fe80::1%eth0]:5", nil, "fe80::1"},
		{"no address", "@", []string{"198.51.100.7"}, "invalid IP"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = tt.peer
			for _, line := range tt.forwarded {
				r.Header.Add("X-Forwarded-For", line)
			}
			require.Equal(t, tt.want, httpd.ClientAddress(trusted)(r).String())
		})
	}
}

func FuzzClientAddress(f *testing.F) {
	f.Add("10.1.2.3:5", "198.51.100.7, 10.0.0.1")
	f.Add("10.1.2.3:5", "[::1]:80,,")
	trusted := netip.MustParsePrefix("10.0.0.0/8")
	f.Fuzz(func(t *testing.T, peer, forwarded string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		r.Header["X-Forwarded-For"] = []string{forwarded}
		client := httpd.ClientAddress([]netip.Prefix{trusted})(r)
		if direct := httpd.ClientAddress(nil)(r); !trusted.Contains(direct) {
			require.Equal(t, direct, client, "nobody but a trusted proxy is believed")
		}
	})
}
