package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"birthday-demo/app/admin"
	"birthday-demo/app/api"
	"birthday-demo/app/birthday"
	"birthday-demo/app/httpd"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/postgres"
)

func serveCommand(w world, s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Serve the API (also without a command)",
		Example: "  app serve --listen :8080 --store /var/lib/birthday/birthday.db",
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), w, s) },
	}
	cmd.Flags().AddFlagSet(s.flags)
	return cmd
}

// publicLimits are the contract's; the idle time is above the 60 s of a balancer,
// which must be the one to end a connection.
var publicLimits = httpd.Limits{
	HeaderTimeout:  5 * time.Second,
	ReadTimeout:    10 * time.Second,
	WriteTimeout:   10 * time.Second,
	IdleTimeout:    75 * time.Second,
	MaxHeaderBytes: maxHeader,
}

// maxHeader makes the limit 16 KiB: net/http reads 4 KiB more than it is told.
const maxHeader = 12 << 10

// adminLimits leave streams as long as they take, if they move; see adminStall.
var adminLimits = httpd.Limits{
	HeaderTimeout:  5 * time.Second,
	IdleTimeout:    75 * time.Second,
	MaxHeaderBytes: maxHeader,
}

const adminStall = 30 * time.Second

// serve runs the service until ctx ends or a part of it fails, and stops it.
func serve(ctx context.Context, w world, s *settings) error {
	loadErr := s.load(w)
	log := newLog(w.stderr, s)
	for _, warning := range s.unknownVariables(w) { // may explain why loading failed
		log.Warn(warning)
	}
	if loadErr != nil {
		return loadErr
	}
	v := readVersion()
	log, flush, err := reportErrors(log, s, w, v)
	if err != nil {
		return err
	}
	defer flush()
	tokens, err := loadTokens(s, log)
	if err != nil {
		return err
	}
	p := parts{world: w, settings: s, log: log, version: v, tokens: tokens, registry: newRegistry(v), stats: httpd.NewStats()}
	var stops closers
	err = p.run(ctx, &stops)

	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.DrainDelay+s.ShutdownTimeout)
	defer cancel()
	if err = errors.Join(err, stops.close(limit)); err != nil {
		log.Error("stopped", "error", err)
		return logged{err}
	}
	log.Info("stopped")
	return nil
}

// run starts the store, the internal port and the public port, and waits until
// ctx ends or one of them fails. How each is stopped is added to stops: readiness
// last, so that it turns red first.
func (p *parts) run(ctx context.Context, stops *closers) (err error) {
	s := p.settings
	failed := make(chan error, 3) // the store and the two ports: the first ends the wait
	p.store, err = openOrLeave(ctx, s, func(err error) { failed <- err })
	if err != nil {
		return err
	}
	stops.add("close the store", func(ctx context.Context) error { return within(ctx, p.store.Close) })
	p.ready = admin.NewReadiness(tellChanges(p.log, p.store.Ping))
	switch opened := p.store.(type) {
	case *bolt.Store:
		p.startCopies(ctx, opened, stops)
	case *postgres.Store:
		measurePool("primary", opened, p.registry)
		if err := p.openReplicas(ctx, stops); err != nil {
			return err
		}
	}

	adminListener, err := p.listen("internal", s.AdminListen)
	if err != nil {
		return listenError("admin-listen", s.AdminListen, err)
	}
	internal := httpd.Start("internal", adminListener, p.admin(isLoopback(adminListener.Addr())), adminLimits, p.log, failed)
	stops.add("stop the internal port", func(ctx context.Context) error { return p.cutStreams(ctx, internal) })

	listener, err := p.listen("public", s.Listen)
	if err != nil {
		return listenError("listen", s.Listen, err)
	}
	limits := publicLimits
	limits.MaxConnections = s.MaxConnections
	public := httpd.Start("public", listener, p.api(), limits, p.log, failed)
	stops.add("stop the public port", func(ctx context.Context) error { return public.Drain(ctx, s.DrainDelay) })

	stops.add("turn readiness red", func(context.Context) error {
		p.ready.Down("stopping")
		p.notify(daemon.SdNotifyStopping)
		return nil
	})
	p.ready.Up()
	_ = p.ready.Check(ctx) // it is logged; the service waits for its database
	p.notify(daemon.SdNotifyReady)
	go keepAlive(ctx, p.notify)
	p.announce(public.Addr(), internal.Addr())

	select {
	case <-ctx.Done():
		p.log.Info("stopping", "reason", "asked to")
		return nil
	case err := <-failed:
		p.log.Info("stopping", "reason", "a part failed")
		return err
	}
}

// streamTimeout is what streams of the internal port get to end, at a stop.
const streamTimeout = 5 * time.Second

// cutStreams stops the internal port. A stream that does not end is cut off: its
// client sees that, and nothing is half written.
func (p parts) cutStreams(ctx context.Context, internal *httpd.Server) error {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	if err := internal.Shutdown(ctx); err != nil {
		p.log.Warn("a stream of the internal port was cut off", "error", err)
	}
	return nil
}

// logged marks an error that is in the log already.
type logged struct{ error }

// Unwrap gives the error.
func (e logged) Unwrap() error { return e.error }

// parts is what serve made, and hands to the ports.
type parts struct {
	world
	settings *settings
	log      *slog.Logger
	version  version
	tokens   tokens
	registry *prometheus.Registry
	stats    *httpd.Stats
	store    store
	replicas *postgres.Store // nil without
	ready    *admin.Readiness
}

// openReplicas makes a store of the replicas, where there are any.
func (p *parts) openReplicas(ctx context.Context, stops *closers) (err error) {
	if p.settings.ReadStore == "" {
		return nil
	}
	o := p.settings.database()
	o.AnyServer = true
	if p.replicas, err = postgres.Open(ctx, p.settings.ReadStore, o); err != nil {
		return err
	}
	stops.add("close the replicas", func(ctx context.Context) error { return within(ctx, p.replicas.Close) })
	measurePool("replicas", p.replicas, p.registry)
	return nil
}

// api makes the handler of the public port.
func (p parts) api() http.Handler {
	s := p.settings
	people := p.store
	if p.replicas != nil {
		people = withReplicas{people, p.replicas, new(atomic.Int64)}
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
			Export: func(ctx context.Context, format string) (string, func(io.Writer) error, error) {
				mediaType, write, err := everyone(ctx, p.store, format)
				return mediaType, func(w io.Writer) error { return orLater(write(w)) }, err
			},
			Import: func(ctx context.Context, body io.Reader, format string) (any, error) {
				report, err := takeIn(ctx, p.store, body, format, rulesOf(p.world, p.settings))
				return report, orLater(err)
			},
		},
		HTTP: httpd.Config{Log: p.log, AccessLevel: slog.LevelDebug, StallTimeout: adminStall},
	})
}

// backup makes a copy for a client of the internal port.
func (p parts) backup(ctx context.Context, compact bool) (*os.File, error) {
	file, ok := p.store.(copier)
	if !ok {
		return nil, &httpd.Refusal{
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

// tellChanges logs when a store stops working, and when it works again.
func tellChanges(log *slog.Logger, ping func(context.Context) error) func(context.Context) error {
	working := true
	return func(ctx context.Context) error { // admin.Readiness calls it once at a time
		err := ping(ctx)
		switch {
		case err != nil && working:
			log.Error("not ready: the store does not work", "error", err)
		case err == nil && !working:
			log.Info("ready: the store works again")
		}
		working = err == nil
		return err
	}
}

// startCopies removes what a crash has left beside the file, and starts the
// scheduled copies where they are wanted.
func (p parts) startCopies(ctx context.Context, file copier, stops *closers) {
	s := p.settings
	sweep(filepath.Dir(s.Store), p.now(), p.log)
	if s.BackupDir == "" {
		return
	}
	_ = os.Mkdir(s.BackupDir, 0o700) // where that fails, the copies tell
	sweep(s.BackupDir, p.now(), p.log)
	copies := &schedule{store: file, folder: s.BackupDir, every: s.BackupEvery, keep: s.BackupKeep, now: p.now, log: p.log}
	copies.register(p.registry)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		copies.run(ctx)
	}()
	stops.add("stop the scheduled copies", func(context.Context) error {
		cancel()
		<-stopped
		return nil
	})
}

// announce says in one line what was started, and to a person how to try it.
func (p parts) announce(public, internal net.Addr) {
	s := p.settings
	p.log.Info("serving",
		"version", p.version.Version,
		"commit", p.version.Commit,
		"store", shown(s.flags.Lookup("store")),
		"public", baseURL(public)+s.BasePath,
		"internal", baseURL(internal),
		"health", baseURL(internal)+"/healthz",
		"time_zone", s.TimeZone,
		"write_tokens", p.tokens.write != nil,
		"read_tokens", p.tokens.read != nil,
	)
	if p.tokens.write == nil && !isLoopback(public) {
		p.log.Warn("whoever reaches the public port may write and delete: set --write-tokens-file", "public", public.String())
	}
	if isTerminal(p.stderr) {
		hello := baseURL(public) + s.BasePath + "/hello/ana"
		_, _ = fmt.Fprintf(p.stderr, "try:\n  curl -X PUT -d '{\"dateOfBirth\": \"1990-05-17\"}' %s\n  curl %s\n", hello, hello)
	}
}

// baseURL is how a person on this machine reaches an address.
func baseURL(address net.Addr) string {
	host, port, err := net.SplitHostPort(address.String())
	ip, ipErr := netip.ParseAddr(host)
	if err == nil && ipErr == nil && (ip.IsUnspecified() || ip == netip.IPv6Loopback() || host == "127.0.0.1") {
		return "http://localhost:" + port
	}
	return "http://" + address.String()
}

func isLoopback(address net.Addr) bool {
	ip, err := netip.ParseAddrPort(address.String())
	return err == nil && ip.Addr().Unmap().IsLoopback()
}

func listenError(flag, address string, err error) error {
	return fmt.Errorf("listen on %s: %w; stop what uses it, or name another address with --%s", address, err, flag)
}

// tokens are the sets of bearer tokens; nil where none are needed.
type tokens struct{ write, read, admin *httpd.Tokens }

func loadTokens(s *settings, log *slog.Logger) (t tokens, err error) {
	var faults []error
	load := func(flag, path string) (set *httpd.Tokens) {
		var err error
		switch text := s.content[flag]; {
		case text != "":
			set, err = httpd.ParseTokens(s.source[flag], text)
		case path != "":
			set, err = httpd.LoadTokens(path, log)
		}
		if err != nil {
			faults = append(faults, err)
		}
		return set
	}
	t = tokens{
		write: load("write-tokens-file", s.WriteTokensFile),
		read:  load("read-tokens-file", s.ReadTokensFile),
		admin: load("admin-tokens-file", s.AdminTokensFile),
	}
	if len(faults) > 0 {
		return tokens{}, usageError{errors.Join(faults...)}
	}
	return t, nil
}

// openOrLeave opens the store, unless ctx ends first: another process may have it
// for some time.
func openOrLeave(ctx context.Context, settings *settings, onFail func(error)) (store, error) {
	type result struct {
		store
		err error
	}
	done := make(chan result, 1)
	go func() {
		s, err := openStore(ctx, settings, onFail)
		done <- result{s, err}
	}()
	select {
	case opened := <-done:
		return opened.store, opened.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// within gives up on stop when ctx ends: a disk that hangs must not keep the
// process, which has acknowledged nothing that is not on it.
func within(ctx context.Context, stop func() error) error {
	done := make(chan error, 1)
	go func() { done <- stop() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closers is what was started, with how each is stopped.
type closers []closer

type closer struct {
	what string
	stop func(context.Context) error
}

func (c *closers) add(what string, stop func(context.Context) error) {
	*c = append(*c, closer{what, stop})
}

// close stops in the reverse order of starting. One that fails does not keep
// the others from being stopped.
func (c *closers) close(ctx context.Context) error {
	var errs []error
	for _, closer := range slices.Backward(*c) {
		if err := closer.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", closer.what, err))
		}
	}
	return errors.Join(errs...)
}
