package httpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

// Limits bounds what the connections of a port may take. Zero is no limit.
type Limits struct {
	HeaderTimeout  time.Duration // to send the header of a request
	ReadTimeout    time.Duration // to send a whole request
	WriteTimeout   time.Duration // to make and send an answer
	IdleTimeout    time.Duration // between two requests
	MaxHeaderBytes int           // net/http adds 4 KiB of slack
	MaxConnections int           // more wait to be accepted
}

const (
	// linger is how long a stopping port still takes requests on the
	// connections it has, and asks for their end with each answer.
	linger = 150 * time.Millisecond
	// quiet is how long nothing may have been at work before the idle
	// connections are closed.
	quiet = 150 * time.Millisecond
	// fresh is how long a new connection is waited for that sends nothing.
	fresh = 500 * time.Millisecond
	// look is how often quiet is looked for.
	look = 5 * time.Millisecond
)

// Server is a port at work. Start makes one.
type Server struct {
	name     string
	listener net.Listener
	http     http.Server
	closing  atomic.Bool
	served   chan struct{} // closed when no more connections are accepted

	mu    sync.Mutex
	conns map[net.Conn]connection
}

// connection is what is known of one.
type connection struct {
	state http.ConnState
	since time.Time // of a new one
}

// Start serves handler on the listener in the background. If it has to stop
// without having been asked, it sends why to failed, which needs room for it.
func Start(name string, listener net.Listener, handler http.Handler, limits Limits, log *slog.Logger, failed chan<- error) *Server {
	if limits.MaxConnections > 0 {
		listener = netutil.LimitListener(listener, limits.MaxConnections)
	}
	s := &Server{
		name:     name,
		listener: listener,
		served:   make(chan struct{}),
		conns:    make(map[net.Conn]connection),
	}
	s.http = http.Server{
		Handler:                      s.closeWhenStopping(handler),
		ReadHeaderTimeout:            limits.HeaderTimeout,
		ReadTimeout:                  limits.ReadTimeout,
		WriteTimeout:                 limits.WriteTimeout,
		IdleTimeout:                  limits.IdleTimeout,
		MaxHeaderBytes:               limits.MaxHeaderBytes,
		DisableGeneralOptionsHandler: true, // OPTIONS * is the handler's too
		ConnState:                    s.track,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	go func() {
		defer close(s.served)
		err := s.http.Serve(listener)
		if !s.closing.Load() && !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("%s port: %w", name, err)
		}
	}()
	return s
}

// Addr gives the address that the port listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Drain stops the port without dropping a request. http.Server.Shutdown alone
// does not: it closes connections that were accepted but whose first request was
// not yet read (golang/go issues 23829, 36819). So, in this order: serve on for
// delay, while a balancer looks away; ask the clients to leave, by Connection:
// close on every answer; take no new connections; wait until none is at work;
// then close the idle ones. When ctx ends before that, what is left is cut off,
// and the error says how many connections that were.
//
// Connections that the system has made and nobody has accepted are reset with
// the listener, unless another process holds its socket, too.
func (s *Server) Drain(ctx context.Context, delay time.Duration) error {
	wait(ctx, delay)
	s.closing.Store(true)
	if open, _ := s.count(); open > 0 {
		wait(ctx, linger)
	}
	_ = s.listener.Close() // a second time it would be closed already
	<-s.served
	s.waitUntilQuiet(ctx)
	if _, busy := s.count(); busy == 0 {
		return s.http.Close() // Shutdown would wait 5 s for those that never sent anything
	}
	return s.Shutdown(ctx)
}

// Shutdown stops the port at once for new requests, and waits for those at work
// until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closing.Store(true)
	if err := s.http.Shutdown(ctx); err != nil {
		_, busy := s.count()
		return errors.Join(fmt.Errorf("cut off %d connections at work: %w", busy, err), s.http.Close())
	}
	<-s.served
	return nil
}

// waitUntilQuiet returns when no connection is open, or none was at work for a
// while, or ctx ends.
func (s *Server) waitUntilQuiet(ctx context.Context) {
	for since := time.Now(); time.Since(since) < quiet && ctx.Err() == nil; wait(ctx, look) {
		open, busy := s.count()
		if open == 0 {
			return
		}
		if busy > 0 {
			since = time.Now()
		}
	}
}

func (s *Server) closeWhenStopping(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.closing.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// track keeps the state of every connection.
func (s *Server) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateClosed || state == http.StateHijacked {
		delete(s.conns, c)
		return
	}
	known := connection{state: state}
	if state == http.StateNew {
		known.since = time.Now()
	}
	s.conns[c] = known
}

// count says how many connections there are, and how many of them are at work. One
// that has just come counts as at work: its request may be on the way.
func (s *Server) count() (open, busy int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if c.state == http.StateActive || c.state == http.StateNew && time.Since(c.since) < fresh {
			busy++
		}
	}
	return len(s.conns), busy
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
