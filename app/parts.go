package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"birthday-demo/app/admin"
	"birthday-demo/app/api"
	"birthday-demo/app/birthday"
	"birthday-demo/app/copies"
	"birthday-demo/app/httpd"
	"birthday-demo/app/logqueue"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/tempfile"
)

// parts is what serve made, and hands to the ports.
type parts struct {
	world
	settings *settings
	log      *slog.Logger
	lines    *logqueue.Queue // what the log is written to
	version  version
	tokens   tokens
	registry *prometheus.Registry
	stats    *httpd.Stats
	store    store
	replicas *postgres.Store // nil without
	ready    *admin.Readiness
}

// readReplicas makes a store of the replicas, where there are any.
func (p *parts) readReplicas(ctx context.Context, stops *closers) (err error) {
	if p.settings.ReadStore == "" {
		return nil
	}
	if p.replicas, err = openReplicas(ctx, p.settings); err != nil {
		return err
	}
	stops.add("close the replicas", func(context.Context) error { return p.replicas.Close() })
	measurePool("replicas", p.replicas, p.registry)
	return nil
}

// api makes the handler of the public port.
func (p parts) api() http.Handler {
	s := p.settings
	people := p.store
	if p.replicas != nil {
		people = withReplicas{people, p.replicas, new(atomic.Pointer[time.Time])}
	}
	zone, _ := birthday.NewZones().Parse(s.TimeZone) // load has checked it,
	proxies, _ := s.proxies()                        // and these
	return api.New(api.Config{
		Store:          measure(people, p.registry),
		Now:            p.now,
		Zone:           zone,
		LeapDay:        birthday.LeapDay(s.LeapDay),
		ASCIIUsernames: s.ASCIIUsernames,
		BasePath:       s.BasePath,
		WriteTokens:    p.tokens.write,
		ReadTokens:     p.tokens.read,
		Registry:       p.registry,
		HTTP: httpd.Config{
			Log:         p.log,
			AccessLevel: slog.LevelInfo,
			Metrics:     httpd.NewMetrics(p.registry),
			Stats:       p.stats,
			Client:      httpd.ClientAddress(proxies),
			MaxInFlight: s.MaxInFlight,
			RateLimit:   s.RateLimit,
		},
	})
}

// admin makes the handler of the internal port. Its requests are mostly probes,
// so they are logged for debugging only.
func (p parts) admin(loopback bool) http.Handler {
	return admin.New(admin.Config{
		Ready:    p.ready,
		Registry: p.registry,
		Stats:    p.stats,
		Version:  p.version,
		Pprof:    p.settings.Pprof,
		Tokens:   p.tokens.admin,
		Loopback: loopback,
		Data: admin.Data{
			Backup: p.backup,
			Export: func(ctx context.Context, format string) (string, func(io.Writer) (int, error), error) {
				mediaType, write, err := everyone(ctx, p.store, format, p.log)
				return mediaType, func(w io.Writer) (int, error) {
					leftOut, err := write(w)
					return leftOut, orLater(err)
				}, err
			},
			Import: func(ctx context.Context, body io.Reader, format string) (any, error) {
				report, err := takeIn(ctx, p.store, body, format, rulesOf(p.world, p.settings), serviceImport(p.settings))
				return report, orLater(err)
			},
		},
		HTTP: httpd.Config{Log: p.log, AccessLevel: slog.LevelDebug, StallTimeout: adminStall},
	})
}

// backup makes a copy for a client of the internal port.
func (p parts) backup(ctx context.Context, compact bool) (io.ReadCloser, int64, error) {
	file, ok := p.store.(*bolt.Store)
	if !ok {
		return nil, 0, &httpd.Refusal{
			Status: http.StatusNotFound,
			Detail: "people are in a PostgreSQL database: copy that, with `backup --store` and its URL, or by its own means",
		}
	}
	return copyForClient(ctx, file, filepath.Dir(p.settings.Store), compact)
}

// orLater adds to the error of a store that is away that the client may try again.
func orLater(err error) error {
	if !errors.Is(err, birthday.ErrUnavailable) {
		return err
	}
	later := &httpd.Refusal{Status: http.StatusServiceUnavailable, Detail: "the store cannot do this just now; try again in a moment", RetryAfter: time.Second}
	return fmt.Errorf("%w: %w", later, err)
}

// tellChange logs when a store stops working, and when it works again.
func tellChange(log *slog.Logger) func(error) {
	return func(err error) {
		if err != nil {
			log.Error("not ready: the store does not work", "error", err)
			return
		}
		log.Info("ready: the store works again")
	}
}

// startCopies tells of a file that was a copy itself, removes what a crash has left
// beside it, and starts the scheduled copies where they are wanted.
func (p parts) startCopies(ctx context.Context, file *bolt.Store, stops *closers) {
	s := p.settings
	if file.WasCopy() {
		p.log.Warn("the store is a copy that was restored, or put in its place: what was put after it was made is not in it", "store", s.Store)
	}
	tempfile.Sweep(filepath.Dir(s.Store), p.now(), func(path string, err error) {
		p.log.Info("removing what a crash has left", "file", path, "error", err)
	})
	if s.BackupDir == "" {
		return
	}
	schedule := &copies.Schedule{Store: file, Path: s.Store, Folder: s.BackupDir, Every: s.BackupEvery, Keep: s.BackupKeep, Now: p.now, Log: p.log}
	schedule.Register(p.registry)
	ctx, cancel := context.WithCancel(ctx) // a copy at work ends when the service begins to stop
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		schedule.Run(ctx)
	}()
	stops.add("stop the scheduled copies", func(context.Context) error {
		cancel()
		<-stopped // soon
		return nil
	})
}
