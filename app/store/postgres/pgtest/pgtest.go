// Package pgtest runs PostgreSQL servers for tests: the programs of the
// distribution, in a temporary folder, on a free port of the loopback interface.
// Servers can be killed, started again, followed by a standby and promoted. The
// package knows nothing of people.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"birthday-demo/app/testkit"
)

const (
	// startTimeout is how long a server may take until it answers.
	startTimeout = 60 * time.Second

	host  = "127.0.0.1"
	owner = "postgres" // the superuser of the server, and of the machine the user who runs it
)

// Options say what a server is like.
type Options struct {
	// Settings are lines of its configuration. With "fsync": "off" it is kept in
	// memory where that is possible.
	Settings map[string]string
	// TLS has it refuse connections without TLS. Its certificate is of an
	// authority of its own, whose certificate is at Server.CA.
	TLS bool
}

// Server is one PostgreSQL server. It may be started and stopped again.
type Server struct {
	// Address is the host and port that it listens on.
	Address string
	// CA is the path of the certificate that signed the server's, with TLS.
	CA string

	folder   string // ours, with the data and the log in it
	options  Options
	password string
	process  *process
	guard    io.Closer // ends what is left when we die; see newGuard
	count    *atomic.Int64
}

// Need skips the test where PostgreSQL is not installed, or fails it with
// TEST_REQUIRE_ALL.
func Need(t testing.TB) {
	t.Helper()
	if _, err := programs(); err != nil {
		testkit.Missing(t, "a PostgreSQL server", "postgresql")
	}
}

// Start makes and starts a server for one test, which skips where there is none.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	Need(t)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// New makes and starts a server. Close ends it and removes its folder.
func New(o Options) (*Server, error) {
	s, err := newServer(o, rand.Text())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.initialize(), s.Start()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// newServer makes the folder of a server, and nothing in it.
func newServer(o Options, password string) (*Server, error) {
	folder, err := os.MkdirTemp(o.place(), "pgtest-")
	if err != nil {
		return nil, fmt.Errorf("make a server: %w", err)
	}
	s := &Server{folder: folder, options: o, password: password, count: new(atomic.Int64)}
	if s.Address, err = testkit.FreeAddress(); err == nil {
		err = giveAway(folder)
	}
	if err == nil {
		s.guard, err = newGuard(folder)
	}
	if err != nil {
		return nil, fmt.Errorf("make a server: %w", errors.Join(err, os.RemoveAll(folder)))
	}
	return s, nil
}

// place is where the folder is to be. A server that does not care for its disk is
// kept in memory, where there is enough: it starts and ends several times faster.
func (o Options) place() string {
	const memory, enough = "/dev/shm", 4 << 30
	var free syscall.Statfs_t
	if o.Settings["fsync"] == "off" && syscall.Statfs(memory, &free) == nil && free.Bavail*uint64(free.Bsize) > enough { //nolint:gosec // no size is negative
		return memory
	}
	return "" // the usual
}

// initialize makes an empty cluster. Passwords are asked for, as in production.
func (s *Server) initialize() error {
	passwords := filepath.Join(s.folder, "password")
	if err := s.write("password", s.password); err != nil {
		return err
	}
	err := runProgram("initdb", "--pgdata", s.data(), "--username", owner, "--pwfile", passwords,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync")
	if err != nil || !s.options.TLS {
		return err
	}
	return s.initializeTLS()
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }

// write makes a file that only the server may read.
func (s *Server) write(name, content string) error {
	path := filepath.Join(s.folder, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("make a server: %w", err)
	}
	return giveAway(path)
}

// URL names a database of the server for its superuser.
func (s *Server) URL(database string) string { return s.URLOf(database, owner, s.password) }

// URLOf names a database of the server for a user.
func (s *Server) URLOf(database, user, password string) string {
	query := url.Values{"sslmode": {"disable"}}
	if s.options.TLS {
		query = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.CA}}
	}
	u := url.URL{
		Scheme: "postgres", Host: s.Address, Path: "/" + database,
		User: url.UserPassword(user, password), RawQuery: query.Encode(),
	}
	return u.String()
}

// Database makes a new, empty database and gives its name.
func (s *Server) Database(ctx context.Context) (string, error) {
	name := "test" + strconv.FormatInt(s.count.Add(1), 10)
	return name, s.Exec(ctx, "postgres", "CREATE DATABASE "+name)
}

// Exec runs a statement in a database as the superuser.
func (s *Server) Exec(ctx context.Context, database, statement string, arguments ...any) error {
	conn, err := pgx.Connect(ctx, s.URL(database))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement, arguments...)
	return errors.Join(err, conn.Close(ctx))
}

// Log gives the end of what the server has logged.
func (s *Server) Log() string {
	const enough = 4 << 10
	text, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-enough):]))
}

func (s *Server) logPath() string { return filepath.Join(s.folder, "log") }

// Close stops the server and removes its folder.
func (s *Server) Close() error {
	err := s.Stop()
	return errors.Join(err, s.guard.Close(), os.RemoveAll(s.folder))
}

// runProgram runs a program of PostgreSQL to its end.
func runProgram(name string, arguments ...string) error {
	cmd, err := program(name, arguments...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// program makes the command of a program of PostgreSQL. Root runs it as the user
// that the distribution has for it: the server refuses to be root.
func program(name string, arguments ...string) (*exec.Cmd, error) {
	folder, err := programs()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(folder, name), arguments...) //nolint:gosec // it is for tests
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.SysProcAttr, err = attributes()
	return cmd, err
}
