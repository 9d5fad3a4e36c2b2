package admin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"birthday-demo/app/httpd"
)

// Data is how the port hands out what the service keeps, and takes it in. What
// is nil is not there.
type Data struct {
	// Backup gives a whole copy of the store, which a slow client may read as
	// slowly as it likes, and its length in bytes.
	Backup func(ctx context.Context, compact bool) (contents io.ReadCloser, size int64, err error)
	// Export gives the media type of a format, and what writes everything in
	// it, but for so many entries that it has to leave out; ErrInput for a
	// format that it does not know.
	Export func(ctx context.Context, format string) (mediaType string, write func(io.Writer) (leftOut int, err error), err error)
	// Import takes everything from a body in a format, and gives a report that
	// becomes the JSON of the answer; ErrInput when it cannot read the body.
	Import func(ctx context.Context, body io.Reader, format string) (report any, err error)
}

// LeftOut is a trailer of an export: how many entries are left out of it. It is known
// only when the others are written.
const LeftOut = "X-Left-Out"

// ErrInput marks errors of Data that the client can mend.
var ErrInput = errors.New("what was sent cannot be used")

func (d Data) getBackup(w http.ResponseWriter, r *http.Request) error {
	compact, err := flag(r, "compact")
	if err != nil {
		return err
	}
	contents, size, err := d.Backup(r.Context(), compact)
	if err != nil {
		return err
	}
	defer func() { _ = contents.Close() }()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if r.Method == http.MethodHead {
		return nil
	}
	_, err = io.Copy(w, contents)
	return err // an answer that has begun is cut off, so that nobody takes it for whole
}

// flag reads a parameter of the query that is on or off: on when it has no value.
func flag(r *http.Request, name string) (bool, error) {
	values, given := r.URL.Query()[name]
	if !given {
		return false, nil
	}
	if len(values) == 1 {
		switch values[0] {
		case "", "1", "true":
			return true, nil
		case "0", "false":
			return false, nil
		}
	}
	return false, &httpd.Refusal{Status: http.StatusBadRequest, Detail: name + " must be true or false, once"}
}

func (d Data) getExport(w http.ResponseWriter, r *http.Request) error {
	mediaType, write, err := d.Export(r.Context(), r.URL.Query().Get("format"))
	if err != nil {
		return inputRefused(err)
	}
	w.Header().Set("Content-Type", mediaType)
	if r.Method == http.MethodHead {
		return nil
	}
	w.Header().Set("Trailer", LeftOut)
	leftOut, err := write(w)
	if err != nil {
		w.Header().Del("Trailer") // of a refusal
		return err                // as above
	}
	w.Header().Set(LeftOut, strconv.Itoa(leftOut))
	return nil
}

func (d Data) postImport(w http.ResponseWriter, r *http.Request) error {
	report, err := d.Import(r.Context(), r.Body, r.URL.Query().Get("format"))
	if err != nil {
		return inputRefused(err)
	}
	return reply(w, report)
}

// inputRefused makes a refusal of an error that the client can mend.
func inputRefused(err error) error {
	if errors.Is(err, ErrInput) {
		return &httpd.Refusal{Status: http.StatusBadRequest, Detail: err.Error()}
	}
	return err
}
