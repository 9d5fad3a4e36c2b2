package api

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"birthday-demo/app/birthday"
	"birthday-demo/app/httpd"
)

// problem is every refusal: RFC 9457's members, and those that clients of the
// original service know.
type problem struct {
	Type      string                   `json:"type"`
	Title     string                   `json:"title"`
	Status    int                      `json:"status"`
	Detail    string                   `json:"detail"`
	Error     string                   `json:"error"`
	Errors    map[birthday.Code]string `json:"errors"`
	RequestID string                   `json:"requestId"`
	Message   string                   `json:"message,omitempty"`
}

// refuse is the one place that says which error is which answer.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := problem{Type: "about:blank", Errors: map[birthday.Code]string{}, RequestID: httpd.RequestID(w)}
	var (
		refusal *httpd.Refusal
		invalid birthday.Invalid
		unknown stranger
	)
	switch {
	case errors.As(err, &refusal):
		p.Status, p.Detail = refusal.Status, refusal.Detail
	case errors.As(err, &invalid):
		p.Status, p.Detail = http.StatusBadRequest, invalid.Error()
		for _, fault := range invalid {
			p.Errors[fault.Code] = fault.Code.Sentence()
			s.refusals.WithLabelValues(string(fault.Code)).Inc()
		}
	case errors.As(err, &unknown):
		p.Status, p.Detail = http.StatusNotFound, unknown.Error()
		p.Message = birthday.HelloStranger(unknown.name)
		s.strangers.Inc()
	case errors.Is(err, birthday.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		refusal = &httpd.Refusal{RetryAfter: time.Second}
		p.Status, p.Detail = http.StatusServiceUnavailable, "the service cannot do this just now; try again in a moment"
	default:
		p.Status, p.Detail = http.StatusInternalServerError, "something went wrong in the service; its log has more under this requestId"
	}
	p.Title, p.Error = http.StatusText(p.Status), p.Detail
	if refusal != nil {
		refusal.SetHeaders(w.Header())
	}
	mediaType := jsonType
	if namesProblem(r) {
		mediaType = problemType
	}
	_ = reply(w, p.Status, mediaType, p) // a struct of texts always becomes JSON
}

// namesProblem says whether the client asks for application/problem+json by
// name.
func namesProblem(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for media := range strings.SplitSeq(accept, ",") {
			name, parameters, err := mime.ParseMediaType(media)
			if err == nil && name == "application/problem+json" && !zeroQuality(parameters["q"]) {
				return true
			}
		}
	}
	return false
}

// zeroQuality says whether a q parameter means "not this one" (RFC 9110,
// section 12.4.2).
func zeroQuality(q string) bool {
	weight, err := strconv.ParseFloat(q, 64)
	return err == nil && weight == 0
}
