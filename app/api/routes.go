package api

import (
	"net/http"

	"github.com/gorilla/mux"

	"birthday-demo/app/httpd"
)

// maxBody is the limit of a request's body, in bytes.
const maxBody = 4 << 10

// routes lists everything that the public port answers.
//
// Of gorilla/mux it uses the matching of paths only. The router must not clean
// paths, since its 301 turns a PUT into a GET; it matches them as they were
// sent, so that a%2Fb is a name and not two folders; and methods are httpd's,
// for the router's 405 has no Allow and it knows neither HEAD nor OPTIONS.
func (s *server) routes() *mux.Router {
	router := mux.NewRouter().SkipClean(true).UseEncodedPath()
	router.NotFoundHandler = http.HandlerFunc(httpd.NotFound)
	routes := router
	if s.BasePath != "" {
		routes = router.PathPrefix(s.BasePath).Subrouter()
	}
	route := func(template string, methods httpd.Methods) {
		routes.Handle(template, httpd.Route(template, methods))
	}
	route("/hello/{username}", httpd.Methods{
		http.MethodGet:    s.reader(s.getHello),
		http.MethodPut:    s.writer(s.putHello),
		http.MethodDelete: s.writer(s.deleteHello),
	})
	route("/openapi.yaml", httpd.Methods{http.MethodGet: httpd.LimitBody(maxBody, getOpenAPI)})
	return router
}

// dispatch hands a request to the route of its path, with the variables of the
// path as its PathValues. The router itself would copy the request twice for them.
func dispatch(router *mux.Router) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var match mux.RouteMatch
		router.Match(r, &match) // always true: what no route has is NotFoundHandler's
		for name, value := range match.Vars {
			r.SetPathValue(name, value)
		}
		match.Handler.ServeHTTP(w, r)
	})
}

// reader guards a handler with tokens for reading, or for writing, and then
// with the limit of bodies.
func (s *server) reader(next httpd.Handler) httpd.Handler {
	next = httpd.LimitBody(maxBody, next)
	if s.ReadTokens == nil {
		return next
	}
	return httpd.RequireToken(next, []*httpd.Tokens{s.ReadTokens, s.WriteTokens})
}

// writer does the same with tokens for writing only.
func (s *server) writer(next httpd.Handler) httpd.Handler {
	next = httpd.LimitBody(maxBody, next)
	if s.WriteTokens == nil {
		return next
	}
	return httpd.RequireToken(next, []*httpd.Tokens{s.WriteTokens}, s.ReadTokens)
}
