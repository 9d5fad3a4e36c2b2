package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/postgres/pgtest"
)

// TestDatabaseFaultsAreSurvived makes the network to the database bad, and the
// database itself: every request is answered in time, nothing acknowledged is
// lost, and the same process recovers by itself with nothing left over.
func TestDatabaseFaultsAreSurvived(t *testing.T) {
	t.Parallel() // it mostly waits
	server := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	proxy, err := pgtest.NewProxy(server.Address)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	store := strings.Replace(migrated(t, server), server.Address, proxy.Address, 1) +
		"&pool_min_conns=8&pool_max_conns=8" // all are open before and after
	program(t)

	blackHole := fault{
		name: "black_hole", away: true, heals: 5 * time.Second, lasts: time.Duration(size(0, 15)) * time.Second,
		cause: func() error { proxy.Freeze(); return nil }, end: func() error { proxy.Thaw(); return nil },
	}
	all := []fault{
		{
			name:  "latency", // of a round trip: 200 ms
			cause: func() error { proxy.Delay(100 * time.Millisecond); return nil },
			end:   func() error { proxy.Delay(0); return nil },
		},
		{name: "reset", refusals: 2 * faultUsers, heals: 2 * time.Second, cause: func() error { proxy.Reset(); return nil }},
		blackHole,
		{name: "half_open", refusals: 3 * faultUsers, heals: 10 * time.Second, cause: func() error { proxy.Forget(); return nil }},
		{name: "stopped", away: true, heals: 5 * time.Second, cause: server.Stop, end: server.Start},
	}
	if long() {
		all = append(all, fault{name: "killed", away: true, heals: 5 * time.Second, cause: server.Kill, end: server.Start})
	}
	faults := faultRun{bound: 10 * time.Second, rounds: size(1, 3)}
	faults.run(t, launch{}, store, all)
	require.Empty(t, faults.wrong, "%v", faults.figures)

	blackHole.lasts = 0
	planted := faultRun{bound: 500 * time.Millisecond, rounds: 1}
	planted.run(t, asBroken("patient"), store, []fault{blackHole})
	require.Subset(t, planted.wrong, []string{notAnswered, stayedGreen, notThere})
	t.Logf("the patient server: %s", strings.Join(planted.wrong, "; "))

	proof{
		Proof:   "database-faults",
		Figures: faults.figures,
		Planted: "a server that waits for ever for its database, and keeps nothing",
		Caught:  len(planted.wrong) > 0,
	}.keep(t)
}

const (
	faultUsers = 16
	faultPause = 5 * time.Millisecond // between two requests of a user
	fastHealth = time.Second          // for the machine's own moods
	settled    = 300 * time.Millisecond

	// What the patient server must be found guilty of.
	notAnswered = "black_hole: not answered in time"
	stayedGreen = "black_hole: readiness stayed green"
	notThere    = "acknowledged and not there"
)

// fault is something that happens to the database.
type fault struct {
	name       string
	cause, end func() error  // with no end, it is over at once
	away       bool          // nobody reaches the database until the end
	lasts      time.Duration // at least
	refusals   int           // most that there may be, unless it is away
	heals      time.Duration // within, after the end
}

// faultRun is one service, what is done to its database, and what users see of
// that: they put and get, and ask for its health and readiness.
type faultRun struct {
	bound  time.Duration // for every answer
	rounds int

	figures map[string]any
	wrong   []string // each once

	service *service
	http    *http.Client
	writers []*auditWriter

	mu           sync.Mutex
	fault        string // the one at work
	refusals     int    // since it began
	longest      time.Duration
	lastRefusal  time.Time
	lastRed      time.Time             // of readiness
	green        bool                  // likewise
	succeeded    [faultUsers]time.Time // when the last request began that went well
	answered     [faultUsers]time.Time // likewise, or when the last one was refused
	health       time.Duration         // the longest answer of /healthz
	acknowledged int
}

func (f *faultRun) run(t *testing.T, l launch, store string, faults []fault) {
	t.Helper()
	f.figures = map[string]any{}
	f.service = l.serve(t, store)
	transport := &http.Transport{MaxIdleConnsPerHost: 2 * faultUsers}
	f.http = &http.Client{Transport: transport, Timeout: f.bound}
	for number := range faultUsers {
		f.writers = append(f.writers, newAuditWriter(number, userNames))
	}
	use := func(do func()) (files, goroutines int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wait := f.use(ctx)
		f.require(f.settle(time.Now(), f.bound), "did not start")
		do()
		cancel()
		wait()
		transport.CloseIdleConnections()
		time.Sleep(settled) // the service sees that
		return f.service.openFiles(t), f.service.goroutines(t)
	}
	files, goroutines := use(func() {})
	filesAfter, goroutinesAfter := use(func() {
		for range f.rounds {
			for _, x := range faults {
				f.suffer(t, x)
			}
		}
	})
	f.require(filesAfter <= files+nearlyIdle, "descriptors are left")
	f.require(goroutinesAfter <= goroutines+nearlyIdle, "goroutines are left")
	f.require(f.health < fastHealth, "/healthz was slow")
	select {
	case <-f.service.ended:
		f.require(false, "it ended")
	default:
	}
	f.figures["rounds"], f.figures["health_longest_ms"], f.figures["acknowledged"] = f.rounds, f.health.Milliseconds(), f.acknowledged
	f.figures["files_before"], f.figures["files_after"] = files, filesAfter
	f.figures["goroutines_before"], f.figures["goroutines_after"] = goroutines, goroutinesAfter
	audit := killAudit{writers: f.writers}
	audit.compare(f.service.everyone(t))
	f.figures["lost"] = len(audit.lost)
	f.require(len(audit.lost) == 0, notThere)
	f.service.stop(t)
}

// require notes what is wrong.
func (f *faultRun) require(so bool, otherwise string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requireLocked(so, otherwise)
}

func (f *faultRun) requireLocked(so bool, otherwise string) {
	if f.fault != "" && otherwise != notThere {
		otherwise = f.fault + ": " + otherwise
	}
	if !so && !slices.Contains(f.wrong, otherwise) {
		f.wrong = append(f.wrong, otherwise)
	}
}

// suffer has the fault last until every user has met it, and readiness is red
// where nobody reaches the database. Then all must become well by itself.
func (f *faultRun) suffer(t *testing.T, x fault) {
	t.Helper()
	f.mu.Lock()
	f.fault, f.refusals, f.longest = x.name, 0, 0
	f.mu.Unlock()
	require.NoError(t, x.cause())
	begin := time.Now()
	f.require(eventually(2*f.bound, func() bool { return f.all(f.answered[:], begin) }), "not everyone was answered")
	if x.away {
		f.require(eventually(f.bound, func() bool { return !f.isGreen() }), "readiness stayed green")
	}
	end := begin
	if x.end != nil {
		time.Sleep(x.lasts - time.Since(begin))
		require.NoError(t, x.end())
		end = time.Now()
	}
	f.require(f.settle(end, x.heals), "did not recover in time")

	f.mu.Lock()
	defer f.mu.Unlock()
	recovery := max(0, f.lastRefusal.Sub(end), f.lastRed.Sub(end))
	f.requireLocked(x.away == (f.refusals > x.refusals), fmt.Sprintf("%d were refused", f.refusals))
	for name, value := range map[string]int64{
		"longest_ms": f.longest.Milliseconds(), "503": int64(f.refusals), "recovery_ms": recovery.Milliseconds(),
	} {
		most, _ := f.figures[x.name+"_"+name].(int64)
		f.figures[x.name+"_"+name] = max(most, value)
	}
	f.fault = ""
}

// settle waits until all is well since then, and has been for a moment.
func (f *faultRun) settle(since time.Time, within time.Duration) bool {
	return eventually(within+time.Until(since)+2*time.Second, func() bool {
		f.mu.Lock()
		bad := time.Since(f.lastRefusal) < settled || time.Since(f.lastRed) < settled
		f.mu.Unlock()
		return !bad && f.isGreen() && f.all(f.succeeded[:], since)
	})
}

// all says whether all of these times are after one.
func (f *faultRun) all(times []time.Time, since time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !slices.ContainsFunc(times, func(at time.Time) bool { return at.Before(since) })
}

func (f *faultRun) isGreen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.green
}

// use has users at work until ctx ends, and then lets them finish.
func (f *faultRun) use(ctx context.Context) (wait func()) {
	var all sync.WaitGroup
	repeat := func(do func()) {
		all.Go(func() {
			for ctx.Err() == nil {
				do()
				time.Sleep(faultPause) // not to have all processors
			}
		})
	}
	for number, w := range f.writers {
		last := ""
		repeat(func() {
			name, date := w.next()
			acknowledged := f.put(number, name, date)
			w.note(name, date, acknowledged)
			if acknowledged {
				last = name
			}
			if last != "" {
				f.get(number, last)
			}
		})
	}
	repeat(f.askHealth)
	repeat(f.askReadiness)
	return all.Wait
}

func (f *faultRun) put(number int, name, date string) (acknowledged bool) {
	return f.ask(number, http.MethodPut, name, `{"dateOfBirth":"`+date+`"}`, http.StatusNoContent)
}

func (f *faultRun) get(number int, name string) {
	f.ask(number, http.MethodGet, name, "", http.StatusOK)
}

// ask makes a request of a user. It must be answered in time as is wanted, or
// with 503 and when to try again.
func (f *faultRun) ask(number int, method, name, body string, want int) (good bool) {
	begin := time.Now()
	status, header, err := f.do(method, f.service.public+"/hello/"+name, body)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.longest = max(f.longest, time.Since(begin))
	switch {
	case time.Since(begin) >= f.bound:
		f.requireLocked(false, "not answered in time")
	case err != nil:
		f.requireLocked(false, fmt.Sprintf("%s: %v", method, err))
	case status == want:
		f.succeeded[number], f.answered[number] = begin, begin
		if want == http.StatusNoContent {
			f.acknowledged++
		}
		return true
	default:
		f.refusals++
		f.requireLocked(status == http.StatusServiceUnavailable && header.Get("Retry-After") != "",
			fmt.Sprintf("%s: %d, Retry-After: %q", method, status, header.Get("Retry-After")))
	}
	f.lastRefusal, f.answered[number] = time.Now(), time.Now()
	return false
}

func (f *faultRun) askHealth() {
	begin := time.Now()
	status, _, err := f.do(http.MethodGet, f.service.internal+"/healthz", "")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.health = max(f.health, time.Since(begin))
	f.requireLocked(status == http.StatusOK, fmt.Sprintf("/healthz: %d %v", status, err))
}

func (f *faultRun) askReadiness() {
	status, _, err := f.do(http.MethodGet, f.service.internal+"/readyz", "")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.green = status == http.StatusOK
	if !f.green {
		f.lastRed = time.Now()
	}
	f.requireLocked(f.green || status == http.StatusServiceUnavailable, fmt.Sprintf("/readyz: %d %v", status, err))
}

// do makes a request whose answer has a header that matters.
func (f *faultRun) do(method, url, body string) (status int, header http.Header, err error) {
	request, err := http.NewRequest(method, "http://"+url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	response, err := f.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close() // it was read to its end
	return response.StatusCode, response.Header, err
}

// patient is a broken program. It asks its database whether it is there, for as
// long as that takes, and keeps nothing there.
func patient() {
	_, database, _ := strings.Cut(flagValue("store"), "@")
	database, _, _ = strings.Cut(database, "/")
	wait := func() {
		conn, err := net.Dial("tcp", database)
		must(err)
		_, err = conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}) // does it want TLS?
		must(err)
		_, err = conn.Read(make([]byte, 1))
		must(err)
		must(conn.Close())
	}
	public, internal := http.NewServeMux(), http.NewServeMux()
	public.HandleFunc("PUT /hello/{name}", func(w http.ResponseWriter, _ *http.Request) {
		wait()
		w.WriteHeader(http.StatusNoContent)
	})
	public.HandleFunc("GET /hello/{name}", func(http.ResponseWriter, *http.Request) { wait() })
	for _, path := range []string{"/healthz", "/readyz", "/export"} {
		internal.HandleFunc("GET "+path, func(http.ResponseWriter, *http.Request) {})
	}
	internal.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "go_goroutines %d\n", runtime.NumGoroutine()) // its client's trouble
	})
	brokenServe(public, internal)
}
