package httpd

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// body is a request's body that knows whether it was read to its end, and gives
// every read its time.
type body struct {
	io.ReadCloser
	conn  *http.ResponseController
	stall time.Duration // 0 leaves that to the server
	ended bool
}

// Read gives an error when nothing comes in time. At the end the connection is
// left without a deadline: net/http goes on reading from it, to see whether the
// client leaves.
func (b *body) Read(p []byte) (int, error) {
	if b.stall > 0 {
		_ = b.conn.SetReadDeadline(time.Now().Add(b.stall)) // a connection that knows none goes without
	}
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.ended = true
		if b.stall > 0 {
			_ = b.conn.SetReadDeadline(time.Time{}) // as above
		}
	}
	return n, err
}
