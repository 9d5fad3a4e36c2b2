package e2e_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/testkit"
)

const (
	neighbourUsers = 8
	neighbourToken = "the-token"

	// What a service whose neighbours are dead must keep to.
	probeBound    = time.Second
	neighbourStop = neighbourDrain + neighbourShutdown + 3*time.Second

	neighbourDrain    = time.Second
	neighbourShutdown = 3 * time.Second

	// readinessStands is how long an answer of the store stands for readiness, and a
	// second for the machine.
	readinessStands = 4 * time.Second

	// noise is what a machine that has other things to do adds to a percentile.
	noise = 10 * time.Millisecond

	lateAnswer = "not answered in time"
)

// TestNeighboursDead has everybody whom the service deals with not answer at once, under
// load: the reader of its log, Sentry, the disks of its tokens and of its copies, and
// in the second half its database. Requests are answered as the contract says, probes
// within a second, and a stop ends in time.
func TestNeighboursDead(t *testing.T) {
	figures := map[string]any{}
	n := newNeighbours(t, launch{}, 10*time.Second)
	n.inFile(t, figures)
	require.Empty(t, n.wrong, "%v", figures)
	db := newNeighbours(t, launch{}, 10*time.Second)
	db.inDatabase(t, figures)
	require.Empty(t, db.wrong, "%v", figures)

	planted := newNeighbours(t, asBroken("dependent"), 500*time.Millisecond)
	s := planted.serve(t, filepath.Join(t.TempDir(), "birthday.db"))
	planted.tokens.Freeze()
	planted.load(s, 2*time.Second, http.StatusNoContent, http.StatusOK, http.StatusOK)
	planted.tokens.Thaw()
	t.Logf("the dependent server: %s", strings.Join(planted.wrong, "; "))
	require.Contains(t, planted.wrong, lateAnswer)

	proof{
		Proof:   "neighbours",
		Figures: figures,
		Planted: "a server that reads its tokens and writes its log on the way of each request",
		Caught:  len(planted.wrong) > 0,
	}.keep(t)
}

// neighbours is everybody around a service, and what its users saw.
type neighbours struct {
	launch
	bound          time.Duration // for the answer to a request
	tokens, copies *testkit.Mount

	mu      sync.Mutex
	wrong   []string // each once
	writers []*auditWriter
}

// newNeighbours makes neighbours that may die, and two that are dead from the start:
// Sentry takes connections and never answers, and nobody reads the log.
func newNeighbours(t *testing.T, l launch, bound time.Duration) *neighbours {
	t.Helper()
	n := &neighbours{launch: l, bound: bound, tokens: testkit.NewMount(t), copies: testkit.NewMount(t), writers: auditWriters(neighbourUsers, 20_000)}
	require.NoError(t, os.WriteFile(n.tokensFile(), []byte(neighbourToken), 0o600))
	sentry, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	require.NoError(t, err)
	t.Cleanup(func() { _ = sentry.Close() })
	n.env = append(n.env, "SENTRY_DSN=http://key@"+sentry.Addr().String()+"/1")
	log, stderr, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = log.Close(), stderr.Close() })
	n.stderr = stderr
	return n
}

func (n *neighbours) tokensFile() string { return filepath.Join(n.tokens.Folder, "tokens") }

func (n *neighbours) serve(t *testing.T, store string, args ...string) *service {
	t.Helper()
	return n.launch.serve(t, store, append(args, "--write-tokens-file="+n.tokensFile(),
		fmt.Sprintf("--drain-delay=%s", neighbourDrain), fmt.Sprintf("--shutdown-timeout=%s", neighbourShutdown))...)
}

// inFile has a service with a file, and compares the times of requests while a copy
// goes to a disk that is slow, or does not answer at all, with those before.
func (n *neighbours) inFile(t *testing.T, figures map[string]any) {
	t.Helper()
	store, lasts := filepath.Join(t.TempDir(), "birthday.db"), time.Duration(size(3, 20))*time.Second
	s := n.serve(t, store, "--backup-dir="+n.copies.Folder, "--backup-every=1s", "--backup-keep=2")
	load := func() neighbourTimes {
		return n.load(s, lasts, http.StatusNoContent, http.StatusOK, http.StatusOK)
	}
	well := load()
	ctx, cancel := context.WithCancel(t.Context())
	var slowing sync.WaitGroup
	slowing.Go(func() { n.copies.Slow(ctx) })
	slow := load()
	cancel()
	slowing.Wait()
	n.copies.Freeze()
	n.tokens.Freeze()
	dead := load()
	for what, during := range map[string]neighbourTimes{"slow": slow, "dead": dead} {
		figures["get_p99_us_"+what], figures["put_p99_us_"+what] = during.get.Microseconds(), during.put.Microseconds()
		n.require(during.get <= 2*well.get+noise, "GET took more than twice as long beside a "+what+" disk")
		n.require(during.put <= 2*well.put+noise, "PUT took more than twice as long beside a "+what+" disk")
	}
	figures["get_p99_us_well"], figures["put_p99_us_well"] = well.get.Microseconds(), well.put.Microseconds()
	figures["requests"] = well.requests + slow.requests + dead.requests
	figures["probe_slowest_ms"] = max(well.probe, slow.probe, dead.probe).Milliseconds()
	took, code := n.stop(t, s)
	figures["stop_ms"] = took.Milliseconds()
	n.require(code == 0, "the stop failed though nothing is wrong")
	_, err := bolt.Verify(store)
	require.NoError(t, err)
	exported, _, _ := run(t, "export", "--store="+store)
	audit := killAudit{writers: n.writers}
	audit.compare(readPeople(t, exported))
	figures["lost"] = len(audit.lost)
	n.require(len(audit.lost) == 0, "acknowledged and not there")
}

// inDatabase has a service with a database, and cuts that off as well.
func (n *neighbours) inDatabase(t *testing.T, figures map[string]any) {
	t.Helper()
	server := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	proxy, err := pgtest.NewProxy(server.Address)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	s := n.serve(t, strings.Replace(migrated(t, server), server.Address, proxy.Address, 1))
	n.load(s, time.Second, http.StatusNoContent, http.StatusOK, http.StatusOK)
	proxy.Freeze()
	n.tokens.Freeze()
	away := n.load(s, time.Duration(size(6, 20))*time.Second, http.StatusServiceUnavailable, http.StatusServiceUnavailable, http.StatusServiceUnavailable)
	figures["without_database_slowest_answer_ms"] = max(away.get, away.put).Milliseconds()
	figures["without_database_probe_slowest_ms"] = away.probe.Milliseconds()
	took, _ := n.stop(t, s) // a request at work may be cut off
	figures["without_database_stop_ms"] = took.Milliseconds()
	proxy.Thaw()
}

// stop ends a service, and returns what that took and the exit code. The disks answer
// again once it has ended: until then the kernel may keep the entry of a process of
// which a thread was in a call to them.
func (n *neighbours) stop(t *testing.T, s *service) (took time.Duration, code int) {
	t.Helper()
	begin := time.Now()
	s.signal(t, syscall.SIGTERM)
	for !s.exited() && time.Since(begin) < 2*neighbourStop {
		time.Sleep(time.Millisecond)
	}
	took = time.Since(begin)
	n.require(took < neighbourStop, "the stop took too long")
	n.copies.Thaw()
	n.tokens.Thaw()
	return took, s.wait(t)
}

// exited reports whether the process has ended, whatever the kernel keeps of it.
func (s *service) exited() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	return err != nil || strings.HasPrefix(after, "Z")
}

// neighbourTimes are the 99th percentiles of requests, and the slowest probe.
type neighbourTimes struct {
	get, put, probe time.Duration
	requests        int
}

// load puts and gets for some time, beside probes. Each answer must have the status
// that is wanted; readiness may have its last one for some seconds yet.
func (n *neighbours) load(s *service, lasts time.Duration, put, get, ready int) neighbourTimes {
	begin := time.Now()
	end := begin.Add(lasts)
	var gets, puts [neighbourUsers][]time.Duration
	var users sync.WaitGroup
	for i, w := range n.writers {
		users.Go(func() {
			c := &client{address: s.public, header: "Authorization: Bearer " + neighbourToken + "\r\n", limit: n.bound}
			defer c.close()
			for time.Now().Before(end) {
				name, date := w.next()
				took, ok := n.ask(c, put, http.MethodPut, "/hello/"+name, `{"dateOfBirth":"`+date+`"}`)
				w.note(name, date, ok && put == http.StatusNoContent)
				puts[i] = append(puts[i], took)
				took, _ = n.ask(c, get, http.MethodGet, "/hello/"+name, "")
				gets[i] = append(gets[i], took)
			}
		})
	}
	var slowest time.Duration
	users.Go(func() {
		c := &client{address: s.internal, limit: n.bound}
		defer c.close()
		for time.Now().Before(end) {
			wanted := ready
			if time.Since(begin) < readinessStands {
				wanted = 0
			}
			health, _ := n.ask(c, http.StatusOK, http.MethodGet, "/healthz", "")
			readiness, _ := n.ask(c, wanted, http.MethodGet, "/readyz", "")
			slowest = max(slowest, health, readiness)
			time.Sleep(20 * time.Millisecond) // probers pause
		}
	})
	users.Wait()
	n.require(slowest < probeBound, "a probe took too long")
	all := slices.Concat(gets[:]...)
	return neighbourTimes{percentile(all), percentile(slices.Concat(puts[:]...)), slowest, 2 * len(all)}
}

// percentile is the 99th.
func percentile(times []time.Duration) time.Duration {
	slices.Sort(times)
	if len(times) == 0 {
		return 0
	}
	return times[len(times)*99/100]
}

// ask makes a request, and reports whether it was answered as it should be: with a
// status, or with any when that is 0.
func (n *neighbours) ask(c *client, want int, method, path, body string) (took time.Duration, ok bool) {
	begin := time.Now()
	status, _, err := c.do(method, path, body)
	switch {
	case err != nil:
		n.require(false, lateAnswer)
	case want != 0 && status != want:
		n.require(false, fmt.Sprintf("%s %s is %d", method, strings.SplitN(path[1:], "/", 2)[0], status))
	}
	return time.Since(begin), err == nil && status == want
}

// require notes what is wrong.
func (n *neighbours) require(so bool, what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !so && !slices.Contains(n.wrong, what) {
		n.wrong = append(n.wrong, what)
	}
}
