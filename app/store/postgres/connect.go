package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"birthday-demo/app/birthday"
	"birthday-demo/app/secretfile"
)

// Options are what a store needs beside its URL.
type Options struct {
	// PasswordFile holds the password, and is read again for each new
	// connection, so that it may change while the service runs.
	PasswordFile string

	// AnyServer lets connections lead to a standby as well, for reads only. What
	// is read there may be behind.
	AnyServer bool
}

// What the URL may say otherwise, by the names of pgx and PostgreSQL.
const (
	maxConns          = 16 // pool_max_conns
	maxConnLifetime   = 10 * time.Minute
	maxConnJitter     = 5 * time.Minute
	maxConnIdle       = 2 * time.Minute
	healthCheckPeriod = 10 * time.Second
	connectTimeout    = 2 * time.Second // connect_timeout, of each host
	statementTimeout  = 4 * time.Second // statement_timeout: less than callTimeout
	lockTimeout       = 2 * time.Second // lock_timeout
	pingTimeout       = time.Second
)

// endTimeout is what a connection gets to end properly, and a statement whose
// caller has gone: it mostly ends in that time, and the connection need not.
const endTimeout = time.Second

// Check gives what is wrong with a URL, without its password. It connects to
// nobody.
func Check(url string) error {
	_, err := poolConfig(url, Options{})
	return err
}

// poolConfig makes the configuration of a pool.
func poolConfig(url string, o Options) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err // without the password
	}
	unless := func(name string, set func()) {
		if !strings.Contains(url, name+"=") {
			set()
		}
	}
	unless("pool_max_conns", func() { config.MaxConns = maxConns })
	unless("pool_max_conn_lifetime", func() { config.MaxConnLifetime = maxConnLifetime })
	unless("pool_max_conn_lifetime_jitter", func() { config.MaxConnLifetimeJitter = maxConnJitter })
	unless("pool_max_conn_idle_time", func() { config.MaxConnIdleTime = maxConnIdle })
	unless("pool_health_check_period", func() { config.HealthCheckPeriod = healthCheckPeriod })
	connConfig(config.ConnConfig, o)
	config.ConnConfig.RuntimeParams = withDefaults(config.ConnConfig.RuntimeParams, map[string]string{
		"application_name":  "birthday-demo",
		"statement_timeout": milliseconds(statementTimeout),
		"lock_timeout":      milliseconds(lockTimeout),
	})
	password := o.password()
	config.BeforeConnect = password
	if o.AnyServer {
		config.BeforeConnect = func(ctx context.Context, config *pgx.ConnConfig) error {
			scatter(config)
			return password(ctx, config)
		}
	}
	return config, nil
}

// scatter has a connection begin with any of the hosts: pgx begins with the first,
// which would have all of them.
func scatter(config *pgx.ConnConfig) {
	all := append([]*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	chosen := all[rand.N(len(all))] //nolint:gosec // balance needs no secrecy
	at := slices.IndexFunc(all, func(f *pgconn.FallbackConfig) bool { return f.Host == chosen.Host && f.Port == chosen.Port })
	all = slices.Concat(all[at:], all[:at]) // a host may be there twice, with TLS and without
	config.Host, config.Port, config.TLSConfig = all[0].Host, all[0].Port, all[0].TLSConfig
	config.Fallbacks = all[1:]
}

// Exposed says whether a URL has connections to other machines on which somebody on
// the way could read and change what is sent: those without sslmode=verify-full.
func Exposed(url string) (bool, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return false, err // without the password
	}
	exposed := func(host string, t *tls.Config) bool {
		address, err := netip.ParseAddr(host)
		near := strings.HasPrefix(host, "/") || host == "localhost" || err == nil && address.IsLoopback()
		return !near && (t == nil || t.InsecureSkipVerify)
	}
	return exposed(config.Host, config.TLSConfig) ||
		slices.ContainsFunc(config.Fallbacks, func(f *pgconn.FallbackConfig) bool { return exposed(f.Host, f.TLSConfig) }), nil
}

// connConfig has connections lead to a server that takes writes, even when the
// URL does not ask for it: a read from another could miss what was just written.
// They speak UTF-8, whatever the URL and the variables say.
func connConfig(config *pgx.ConnConfig, o Options) {
	maps.DeleteFunc(config.RuntimeParams, func(name, _ string) bool {
		return strings.HasPrefix(name, "pool_") // where there is no pool, the URL may be the service's all the same
	})
	if config.ValidateConnect == nil && !o.AnyServer {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	config.RuntimeParams["client_encoding"] = encoding
	config.AfterConnect = requireEncoding
	config.Tracer, config.DialFunc = marker{}, dial
	config.OnNotice = notice
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn(), DeadlineDelay: endTimeout}
	}
}

// encoding is how usernames are written, by PostgreSQL's name for it.
const encoding = "UTF8"

// requireEncoding refuses a database that keeps text in another encoding: some
// usernames could not be written there, and others would come back as others.
func requireEncoding(_ context.Context, conn *pgconn.PgConn) error {
	has := conn.ParameterStatus("server_encoding")
	if has == encoding {
		return nil
	}
	return fmt.Errorf("the database keeps text as %s, and usernames are %s: make a new one WITH ENCODING '%[2]s' TEMPLATE template0, "+
		"and move everyone there, by an export of the release that wrote them and an import of this one", has, encoding)
}

// password returns what reads the password for each new connection. A pool sets no
// end to it but its own, and a disk that hangs must not take the connection's place.
func (o Options) password() func(context.Context, *pgx.ConnConfig) error {
	if o.PasswordFile == "" {
		return func(context.Context, *pgx.ConnConfig) error { return nil }
	}
	file := secretfile.NewReader(o.PasswordFile)
	return func(ctx context.Context, config *pgx.ConnConfig) error {
		ctx, cancel := context.WithTimeout(ctx, config.ConnectTimeout)
		defer cancel()
		text, err := file.Read(ctx)
		if err != nil {
			return fmt.Errorf("%w: read the database's password: %w", birthday.ErrUnavailable, err)
		}
		config.Password = strings.TrimRight(string(text), "\r\n")
		if config.Password == "" {
			return fmt.Errorf("%w: the file of the database's password is empty: %s", birthday.ErrUnavailable, o.PasswordFile)
		}
		return nil
	}
}

func withDefaults(values, defaults map[string]string) map[string]string {
	for name, value := range defaults {
		if _, set := values[name]; !set {
			values[name] = value
		}
	}
	return values
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// connectingKey marks the contexts in which connections are made.
type connectingKey struct{}

// marker is a tracer only to set that mark: nothing else tells dial what for.
type marker struct{}

// TraceConnectStart sets the mark.
func (marker) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return context.WithValue(ctx, connectingKey{}, true)
}

// TraceConnectEnd does nothing.
func (marker) TraceConnectEnd(context.Context, pgx.TraceConnectEndData) {}

// TraceQueryStart does nothing.
func (marker) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd does nothing.
func (marker) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// dial makes a connection. The other one that pgx makes, to cancel a statement
// that it gave up, is worth little time.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: healthCheckPeriod}
	if ctx.Value(connectingKey{}) == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, endTimeout)
		defer cancel()
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if ctx.Value(connectingKey{}) == nil {
		return conn, conn.SetDeadline(time.Now().Add(endTimeout))
	}
	return hasty{conn}, nil
}

// hasty is a connection that no deadline keeps for long. pgx gives one that it
// closes 15 seconds to say good-bye, and so long its place in the pool is taken.
type hasty struct{ net.Conn }

// SetDeadline sets an earlier deadline where that is far away.
func (h hasty) SetDeadline(at time.Time) error {
	if soon := time.Now().Add(endTimeout); at.After(soon) {
		at = soon
	}
	return h.Conn.SetDeadline(at)
}

// unreplicatedKey is where a connection remembers that a commit is here only.
const unreplicatedKey = "unreplicated"

var errUnreplicated = errors.New("the commit was not confirmed by the standby, its outcome is unknown")

// notice sees to a trap: when the wait for a synchronous standby is cancelled,
// PostgreSQL reports success, and only a notice says that the commit may be lost
// with this server.
func notice(conn *pgconn.PgConn, n *pgconn.Notice) {
	if n.Routine == "SyncRepWaitForLSN" {
		conn.CustomData()[unreplicatedKey] = true
	}
}

// unreplicated gives an error when the last commit is here only.
func unreplicated(conn *pgx.Conn) error {
	data := conn.PgConn().CustomData()
	if data[unreplicatedKey] == nil {
		return nil
	}
	delete(data, unreplicatedKey)
	return unavailable(errUnreplicated)
}
