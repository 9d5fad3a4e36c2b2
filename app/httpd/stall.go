package httpd

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// stallingBody gives every read of a request's body its time.
type stallingBody struct {
	io.ReadCloser
	conn    *http.ResponseController
	timeout time.Duration
}

// Read gives an error when nothing comes in time. At the end of the body the
// connection is left without a deadline: net/http goes on reading from it, to
// see whether the client leaves.
func (b *stallingBody) Read(p []byte) (int, error) {
	_ = b.conn.SetReadDeadline(time.Now().Add(b.timeout)) // a connection that knows none goes without
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.conn.SetReadDeadline(time.Time{}) // as above
	}
	return n, err
}
