package httpd

import (
	"net/http"
	"slices"
	"strings"
)

// Methods says which handler answers which method of a path.
type Methods map[string]Handler

// Resource answers every method of one path template: HEAD as GET, OPTIONS with
// the methods there are, and others with 405 and the same list (RFC 9110,
// sections 9.3.2, 9.3.7 and 15.5.6).
type Resource struct {
	template string
	methods  Methods
	allow    string
}

// Route makes the resource of a template, which names it in logs and metrics.
func Route(template string, methods Methods) *Resource {
	allowed := []string{http.MethodOptions}
	for method := range methods {
		allowed = append(allowed, method)
		if method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	slices.Sort(allowed)
	return &Resource{template, methods, strings.Join(allowed, ", ")}
}

// Allow lists the methods, as in the header of that name.
func (s *Resource) Allow() string { return s.allow }

// ServeHTTP answers a request below Wrap.
func (s *Resource) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := mustExchange(w)
	x.route = s.template
	handler := s.methods[r.Method]
	if handler == nil && r.Method == http.MethodHead {
		handler = s.methods[http.MethodGet]
	}
	if handler == nil {
		handler = s.others
	}
	if err := handler(x, r); err != nil {
		x.refuse(err)
	}
}

// others answers the methods that have no handler.
func (s *Resource) others(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Allow", s.allow)
	if r.Method != http.MethodOptions {
		return &Refusal{Status: http.StatusMethodNotAllowed, Detail: "this path takes the methods " + s.allow}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// NotFound refuses a path that no route has.
func NotFound(w http.ResponseWriter, _ *http.Request) {
	mustExchange(w).refuse(&Refusal{Status: http.StatusNotFound, Detail: "there is nothing at this path"})
}

// mustExchange finds what Wrap handed down.
func mustExchange(w http.ResponseWriter) *exchange {
	x, ok := w.(*exchange)
	if !ok {
		panic("httpd: a route was called without Wrap around it")
	}
	return x
}
