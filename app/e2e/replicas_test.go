package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/testkit"
)

// TestReplicasAreReplacedUnnoticed replaces the replicas behind a balancer one by
// one, under load.
func TestReplicasAreReplacedUnnoticed(t *testing.T) {
	needBalancer(t)
	server := pgtest.Shared(t)
	program(t)
	rolling := rollingRun{signal: syscall.SIGTERM, replacements: size(6, 40), requests: size(5_000, 50_000)}
	rolling.run(t, migrated(t, server))
	require.Empty(t, rolling.failed)
	require.Empty(t, rolling.lost)

	planted := rollingRun{signal: syscall.SIGKILL, replacements: 10, enough: 1}
	planted.run(t, migrated(t, server))
	require.NotEmpty(t, planted.failed)
	t.Logf("with SIGKILL: %d failed; the first: %s", len(planted.failed), planted.failed[0])

	proof{
		Proof: "replicas",
		Figures: map[string]any{
			"replacements": rolling.replaced, "requests": len(rolling.times), "failed": len(rolling.failed), "lost": len(rolling.lost),
			"slowest_ms": milliseconds(rolling.times[len(rolling.times)-1]), "p99_ms": milliseconds(quantile(rolling.times, .99)),
		},
		Planted: "SIGKILL instead of SIGTERM",
		Caught:  len(planted.failed) > 0,
	}.keep(t)
}

// rollingRun replaces replicas so often, for at least so many requests, or until
// enough of those failed.
type rollingRun struct {
	signal                 syscall.Signal
	replacements, requests int
	enough                 int // 0 is never

	replaced     int
	times        []time.Duration // of good answers, sorted
	failed, lost []string
}

func (r *rollingRun) run(t *testing.T, store string) {
	t.Helper()
	f := newFleet(t, store)
	f.add(t, launch{})
	f.add(t, launch{})
	load := startUsers(f.address, 8)
	defer load.end()
	for r.replaced < r.replacements || load.answers() < r.requests {
		f.add(t, launch{})
		f.leave(t, r.signal)
		r.replaced++
		if r.enough > 0 && load.failures() >= r.enough {
			break
		}
	}
	r.times, r.failed = load.end()
	r.lost = load.lost(f.everyone(t))
	f.stop(t)
}

// fleet is some replicas behind HAProxy, which mirrors a roll-out of ECS or
// Kubernetes: there is one place more than there are replicas. A new one starts in
// the free place, and gets requests once its readiness is green. Then the oldest
// is asked to stop. Its readiness turns red at once, but it serves on for
// drainDelay, until the balancer has surely seen that. Its place is then the free
// one.
//
// HAProxy may try again where it got no connection. It repeats no request that
// may have reached a replica.
type fleet struct {
	address string // of the balancer
	store   string
	folder  string
	places  [3]place
	running []replica // the oldest first
}

// place is where a replica may be.
type place struct{ public, internal string } // addresses

type replica struct {
	*service
	place int
}

const (
	drainDelay = 500 * time.Millisecond // more than two checks of the balancer, and a slow machine

	balancerConfiguration = `
global
	stats socket %s mode 600
	nbthread 1
defaults
	mode http
	timeout connect 1s
	timeout client 60s
	timeout server 20s
	timeout check 1s
	retries 3
	retry-on conn-failure
	option redispatch 1
frontend public
	bind fd@3
	default_backend replicas
backend replicas
	balance roundrobin
	option httpchk GET /readyz
	http-check expect status 200
	default-server check inter 100ms fall 2 rise 1
`
)

// needBalancer skips the test where HAProxy is not installed. Debian has it where
// not everybody looks.
func needBalancer(t *testing.T) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	testkit.Needs(t, "haproxy", "haproxy")
}

// newFleet starts a balancer for replicas of a store. There are none yet.
func newFleet(t *testing.T, store string) *fleet {
	t.Helper()
	folder, err := os.MkdirTemp("", "birthday-e2e-*") // short enough for a socket's name
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }() // it is the balancer's then
	file, err := listener.(*net.TCPListener).File()
	require.NoError(t, err)
	defer func() { _ = file.Close() }()

	f := &fleet{address: listener.Addr().String(), store: store, folder: folder}
	configuration := fmt.Sprintf(balancerConfiguration, f.socket())
	for i := range f.places {
		var p place
		for _, address := range []*string{&p.public, &p.internal} {
			*address, err = testkit.FreeAddress()
			require.NoError(t, err)
		}
		_, port, _ := net.SplitHostPort(p.internal) // it is ours
		configuration += fmt.Sprintf("\tserver place%d %s port %s\n", i, p.public, port)
		f.places[i] = p
	}
	path := filepath.Join(folder, "haproxy.cfg")
	require.NoError(t, os.WriteFile(path, []byte(configuration), 0o600))
	cmd := exec.Command("haproxy", "-db", "-f", path)
	var log testkit.Output
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.ExtraFiles = []*os.File{file}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it is there: nobody waited for it
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("haproxy: %s", log.String())
		}
	})
	for i := range f.places { // which it takes for up before the first check
		require.True(t, eventually(patience, func() bool { return f.state(i) == "DOWN" }), "haproxy: %s", log.String())
	}
	return f
}

func (f *fleet) socket() string { return filepath.Join(f.folder, "haproxy.sock") }

// state gives what the balancer thinks of a place: UP, DOWN or something between.
func (f *fleet) state(place int) string {
	conn, err := net.Dial("unix", f.socket())
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "show stat\n"); err != nil {
		return err.Error()
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		const name, status = 1, 17
		fields := strings.Split(lines.Text(), ",")
		if len(fields) > status && fields[name] == fmt.Sprintf("place%d", place) {
			return fields[status]
		}
	}
	return "unknown"
}

// start starts a replica in the free place. It need not be ready.
func (f *fleet) start(t *testing.T, l launch) replica {
	t.Helper()
	free := 0
	for slices.ContainsFunc(f.running, func(r replica) bool { return r.place == free }) {
		free++
	}
	p := f.places[free]
	s := l.serve(t, f.store, "--listen="+p.public, "--admin-listen="+p.internal, "--drain-delay="+drainDelay.String())
	r := replica{s, free}
	f.running = append(f.running, r)
	return r
}

// admit waits until the balancer sends requests to a replica.
func (f *fleet) admit(t *testing.T, r replica) {
	t.Helper()
	require.True(t, eventually(patience, func() bool { return f.state(r.place) == "UP" }),
		"the balancer says %q: %s", f.state(r.place), r.stderr.String())
}

func (f *fleet) add(t *testing.T, l launch) {
	t.Helper()
	f.admit(t, f.start(t, l))
}

// leave has the oldest replica stop.
func (f *fleet) leave(t *testing.T, signal syscall.Signal) {
	t.Helper()
	oldest := f.running[0]
	f.running = f.running[1:]
	oldest.signal(t, signal)
	if code := oldest.wait(t); signal == syscall.SIGTERM {
		require.Zero(t, code, oldest.stderr.String())
	}
	require.True(t, eventually(patience, func() bool { return f.state(oldest.place) == "DOWN" }), f.state(oldest.place))
}

// everyone reads all people through the youngest.
func (f *fleet) everyone(t *testing.T) map[string]string {
	t.Helper()
	return f.running[len(f.running)-1].everyone(t)
}

// stop stops the replicas, when nobody uses them any more.
func (f *fleet) stop(t *testing.T) {
	t.Helper()
	for _, r := range f.running {
		r.signal(t, syscall.SIGTERM)
	}
	for _, r := range f.running {
		require.Zero(t, r.wait(t), r.stderr.String())
	}
}

// users put and get on connections that they keep, until the end.
type users struct {
	all     []*user
	stop    chan struct{}
	working sync.WaitGroup

	good, bad atomic.Int64
}

type user struct {
	*auditWriter
	times  []time.Duration // of good answers
	failed []string
}

const (
	// userPause is what a user waits between two requests: what is measured is to
	// be the service, and not the want of processors.
	userPause = 4 * time.Millisecond

	userNames = 50 // of each
)

func startUsers(address string, n int) *users {
	u := &users{stop: make(chan struct{})}
	for number := range n {
		one := &user{auditWriter: newAuditWriter(number, userNames)}
		u.all = append(u.all, one)
		u.working.Go(func() { one.use(address, u) })
	}
	return u
}

func (u *user) use(address string, all *users) {
	c := &client{address: address}
	defer c.close()
	for {
		name, date := u.next()
		begin := time.Now()
		status, err := c.put(name, date)
		acknowledged := err == nil && status == http.StatusNoContent
		u.note(name, date, acknowledged)
		u.count(all, begin, acknowledged, "PUT", status, err)
		if acknowledged {
			begin = time.Now()
			status, _, err = c.get(name)
			u.count(all, begin, err == nil && status == http.StatusOK, "GET", status, err)
		}
		select {
		case <-all.stop:
			return
		case <-time.After(userPause):
		}
	}
}

func (u *user) count(all *users, begin time.Time, good bool, what string, status int, err error) {
	if good {
		u.times = append(u.times, time.Since(begin))
		all.good.Add(1)
		return
	}
	u.failed = append(u.failed, fmt.Sprintf("%s: %d %v", what, status, err))
	all.bad.Add(1)
}

func (u *users) answers() int { return int(u.good.Load()) }

func (u *users) failures() int { return int(u.bad.Load()) }

// end gives the sorted times of good answers, and what the others were. It may be
// called again.
func (u *users) end() (times []time.Duration, failed []string) {
	select {
	case <-u.stop:
	default:
		close(u.stop)
	}
	u.working.Wait()
	for _, one := range u.all {
		times, failed = append(times, one.times...), append(failed, one.failed...)
	}
	slices.Sort(times)
	return times, failed
}

// lost says what was acknowledged, and is not there.
func (u *users) lost(people map[string]string) []string {
	var audit killAudit
	for _, one := range u.all {
		audit.writers = append(audit.writers, one.auditWriter)
	}
	audit.compare(people)
	return audit.lost
}
