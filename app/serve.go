package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"birthday-demo/app/admin"
	"birthday-demo/app/httpd"
	"birthday-demo/app/logqueue"
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

// serve runs the service until ctx ends or a part of it fails, and stops it. All that
// it prints is queued: whoever reads it may stand still, or be gone.
func serve(ctx context.Context, w world, s *settings) error {
	w.ignoreBrokenPipes()
	err := s.load(w)
	lines := logqueue.New(w.stderr, logFormat(w.stderr, s))
	log := slog.New(lines.Handler())
	for _, warning := range s.unknownVariables(w) { // may explain why loading failed
		log.Warn(warning)
	}
	v, flush := readVersion(), func() {}
	if err == nil {
		log, flush, err = reportErrors(log, s, w, v)
	}
	if err == nil {
		err = serveLogged(ctx, w, s, v, log, lines)
	}
	if told := (logged{}); err != nil && !errors.As(err, &told) {
		_, _ = fmt.Fprintln(lines, "error:", err) // a queue takes all
		err = logged{err}
	}
	var ends sync.WaitGroup
	ends.Go(flush)
	ends.Go(func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		lines.Close(limit)
	})
	ends.Wait()
	return err
}

// serveLogged is serve once there are settings and a log.
func serveLogged(ctx context.Context, w world, s *settings, v version, log *slog.Logger, lines *logqueue.Queue) error {
	tokens, err := loadTokens(s, log)
	if err != nil {
		return err
	}
	p := parts{world: w, settings: s, log: log, lines: lines, version: v, tokens: tokens, registry: newRegistry(v), stats: httpd.NewStats()}
	measureLog(lines, p.registry)
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx)) // until the last request
	defer stopWatching()
	tokens.watch(watching, p.registry)
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
	p.store, err = openOrLeave(ctx, s, bolt.Options{Failed: func(err error) { failed <- err }, Own: true, Progress: p.tellProgress()})
	if err != nil {
		return err
	}
	stops.add("close the store", func(context.Context) error { return p.store.Close() })
	p.ready = admin.NewReadiness(p.store.Ping, tellChange(p.log))
	switch opened := p.store.(type) {
	case *bolt.Store:
		p.startCopies(ctx, opened, stops)
	case *postgres.Store:
		measurePool("primary", opened, p.registry)
		if err := p.readReplicas(ctx, stops); err != nil {
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
	limit, warning := s.connections()
	if warning != "" {
		p.log.Warn(warning)
	}
	limits.MaxConnections = limit
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
		_, _ = fmt.Fprintf(p.lines, "try:\n  curl -X PUT -d '{\"dateOfBirth\": \"1990-05-17\"}' %s\n  curl %s\n", hello, hello)
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

const (
	// progressEvery is how often the log says how far a start is.
	progressEvery = 10 * time.Second

	// extendTimeout has systemd wait for another half minute (sd_notify(3)).
	extendTimeout = "EXTEND_TIMEOUT_USEC=30000000"
)

// tellProgress returns what tells the supervisor and the log that a store is being
// read, as long as it makes progress.
func (p *parts) tellProgress() func(read, all int64) {
	told := time.Now()
	return func(read, all int64) {
		p.notify(extendTimeout)
		if time.Since(told) < progressEvery {
			return
		}
		told = time.Now()
		p.log.Info("reading the store through before serving from it", "percent", 100*read/all, "bytes", all)
	}
}

// watch reads the files of the sets again while ctx lasts, and shows when each was
// last read.
func (t tokens) watch(ctx context.Context, registry prometheus.Registerer) {
	for name, set := range map[string]*httpd.Tokens{"write": t.write, "read": t.read, "admin": t.admin} {
		if _, fromFile := set.LastRead(); !fromFile {
			continue
		}
		go set.Watch(ctx)
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "birthday_tokens_timestamp_seconds",
			Help:        "When the tokens in force were last read from their file, in seconds since 1970.",
			ConstLabels: prometheus.Labels{"set": name},
		}, func() float64 {
			read, _ := set.LastRead()
			return float64(read.Unix()) //nolint:forbidigo // Prometheus wants the wall clock's
		}))
	}
}

// openOrLeave opens the store, unless ctx ends first: another process may have it
// for some time.
func openOrLeave(ctx context.Context, settings *settings, o bolt.Options) (store, error) {
	type result struct {
		store
		err error
	}
	done := make(chan result, 1)
	go func() {
		s, err := openStore(ctx, settings, o)
		done <- result{s, err}
	}()
	select {
	case opened := <-done:
		return opened.store, opened.err
	case <-ctx.Done():
		return nil, ctx.Err()
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

// cutOffTime is what the stops get together to end once their ctx has: enough to
// cut off what is left.
const cutOffTime = 250 * time.Millisecond

// close stops in the reverse order of starting. One that fails does not keep
// the others from being stopped, and neither does one that hangs, as on a disk that
// does: what was acknowledged is safe, and the process has to go.
func (c *closers) close(ctx context.Context) error {
	limit, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(cutOffTime, cancel) })()
	var errs []error
	for _, closer := range slices.Backward(*c) {
		done := make(chan error, 1)
		go func() { done <- closer.stop(ctx) }()
		var err error
		select {
		case err = <-done:
		case <-limit.Done():
			err = errors.New("it did not end in time")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", closer.what, err))
		}
	}
	return errors.Join(errs...)
}
