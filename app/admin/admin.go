// Package admin is the internal port: health and readiness for platforms,
// metrics and statistics for people, profiles when they are asked for. It must
// never be public. It knows nothing of birthdays; what it shows is handed in.
package admin

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"birthday-demo/app/httpd"
)

// Config is what the port shows.
type Config struct {
	Ready    *Readiness
	Registry *prometheus.Registry
	Stats    *httpd.Stats
	Version  any // becomes the JSON of /version

	// What hands out data, and Go's profiles with Pprof, needs one of Tokens.
	// When that is nil it is open on a loopback address and refused elsewhere.
	Data     Data
	Pprof    bool
	Tokens   *httpd.Tokens
	Loopback bool // the port listens on a loopback address only

	HTTP httpd.Config
}

// New gives the handler of the internal port.
func New(c Config) http.Handler {
	router := mux.NewRouter().SkipClean(true)
	router.NotFoundHandler = http.HandlerFunc(httpd.NotFound)
	get := func(template string, h httpd.Handler) {
		router.Handle(template, httpd.Route(template, httpd.Methods{http.MethodGet: h}))
	}
	get("/healthz", getHealth)
	get("/readyz", c.getReady)
	get("/metrics", fromHTTP(promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{Registry: c.Registry}).ServeHTTP))
	get("/stats", func(w http.ResponseWriter, _ *http.Request) error { return reply(w, c.Stats.Summary()) })
	get("/version", func(w http.ResponseWriter, _ *http.Request) error { return reply(w, c.Version) })
	if c.Data.Backup != nil {
		get("/backup", c.guard(c.Data.getBackup))
	}
	if c.Data.Export != nil {
		get("/export", c.guard(c.Data.getExport))
	}
	if c.Data.Import != nil {
		router.Handle("/import", httpd.Route("/import", httpd.Methods{http.MethodPost: c.guard(c.Data.postImport)}))
	}
	if c.Pprof {
		get("/debug/pprof/", c.guard(fromHTTP(pprof.Index)))
		get("/debug/pprof/cmdline", c.guard(fromHTTP(pprof.Cmdline)))
		get("/debug/pprof/profile", c.guard(fromHTTP(pprof.Profile)))
		get("/debug/pprof/symbol", c.guard(fromHTTP(pprof.Symbol)))
		get("/debug/pprof/trace", c.guard(fromHTTP(pprof.Trace)))
		get("/debug/pprof/{profile}", c.guard(fromHTTP(pprof.Index)))
	}
	return httpd.Wrap(router, c.HTTP)
}

// getHealth says that the process can answer. It touches nothing else: a
// platform restarts what is not healthy, and no restart mends a full disk.
func getHealth(w http.ResponseWriter, _ *http.Request) error { return say(w, "ok") }

// getReady says whether requests should be sent here now.
func (c Config) getReady(w http.ResponseWriter, r *http.Request) error {
	if err := c.Ready.Check(r.Context()); err != nil {
		return &httpd.Refusal{Status: http.StatusServiceUnavailable, Detail: "not ready: " + err.Error()}
	}
	return say(w, "ready")
}

// fromHTTP makes a handler of one that answers for its own errors.
func fromHTTP(h http.HandlerFunc) httpd.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		h(w, r)
		return nil
	}
}

func say(w http.ResponseWriter, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, text+"\n") // the client went away: nobody is left to tell
	return nil
}

func reply(w http.ResponseWriter, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write an answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(append(body, '\n')) // as above
	return nil
}
