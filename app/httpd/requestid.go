package httpd

import (
	"net/http"

	"github.com/google/uuid"
)

func init() { uuid.EnableRandPool() } // random bytes for many ids at once; they are no secrets

// requestID takes over the client's id when it is harmless, or makes one: a
// UUID of version 7, which sorts by time (RFC 9562).
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); harmlessID(id) {
		return id
	}
	id, err := uuid.NewV7()
	if err != nil { // the system has no randomness: better an id that repeats than no answer
		return "unknown"
	}
	return id.String()
}

// harmlessID says whether id is 1 to 64 of the characters A-Z a-z 0-9 . _ -
func harmlessID(id string) bool {
	if len(id) < 1 || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
