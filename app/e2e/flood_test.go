package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFloodsAreBounded lets a thousand clients send slowly, then many ask for
// names that nobody has and from addresses that nobody had: memory stays bounded,
// the others are served meanwhile, and nothing is left of it afterwards.
func TestFloodsAreBounded(t *testing.T) {
	sizes := floodRun{slow: 1_000, names: size(20_000, 200_000), addresses: size(50_000, 500_000), patience: 20 * time.Second}
	faults := sizes.run(t, launch{})
	require.Empty(t, faults, "%v", sizes.figures)

	planted := floodRun{slow: 20, names: 1_000, addresses: 2_000, patience: time.Second}
	caught := planted.run(t, asBroken("hoarder"))
	require.Subset(t, caught, []string{slowLeft, memoryGrew, notIdle})
	t.Logf("the hoarder: %s", strings.Join(caught, "; "))

	proof{
		Proof:   "flood",
		Figures: sizes.figures,
		Planted: "a server that waits for ever and remembers every client",
		Caught:  len(caught) > 0,
	}.keep(t)
}

const (
	mostMemory     = 200 << 20
	fastEnough     = 50 * time.Millisecond // for the machine's own moods
	timesSlower    = 10
	nearlyIdle     = 5 // descriptors or goroutines more than at the start
	floodRateLimit = 100
)

// What the hoarder must be found guilty of.
const (
	slowLeft   = "slow clients were not cut off"
	memoryGrew = "memory grew"
	notIdle    = "descriptors or goroutines are left"
)

// floodRun is one service and what is done to it.
type floodRun struct {
	slow, names, addresses int
	patience               time.Duration // until the slow are cut off, and until all is idle again

	figures map[string]any
}

func (f *floodRun) run(t *testing.T, l launch) (faults []string) {
	t.Helper()
	s := l.serve(t, filepath.Join(t.TempDir(), "birthday.db"),
		"--trusted-proxies=127.0.0.1", "--rate-limit="+strconv.Itoa(floodRateLimit))
	asMany(s.public, 1, 1_000, "10.1", func(int) string { return "ana" }) // it is warm
	files, goroutines := s.openFiles(t), s.goroutines(t)
	watch := s.watchMemory()
	idleMemory := s.memory()

	good := func() time.Duration {
		times, _ := asMany(s.public, 4, 6_000, "10.2", func(int) string { return "ana" })
		return quantile(times, .99)
	}
	before := good()
	slow := newSlowClients(t, s.public, f.slow)
	during := good()
	connections := s.openFiles(t) - files
	_, statuses := asMany(s.public, 8, f.names, "10.3", func(i int) string { return "stranger" + letters(i) })
	strangers := statuses[http.StatusNotFound]
	_, statuses = asMany(s.public, 8, f.addresses, "172", func(int) string { return "ana" })
	addresses := statuses[http.StatusNotFound]
	_, statuses = asMany(s.public, 1, 10*floodRateLimit, "", func(int) string { return "ana" })
	limited := statuses[http.StatusTooManyRequests]
	cutAfter, cut := slow.wait(f.patience)
	slow.end()

	back := eventually(f.patience, func() bool {
		return s.openFiles(t) <= files+nearlyIdle && s.goroutines(t) <= goroutines+nearlyIdle
	})
	most := watch()
	f.figures = map[string]any{
		"slow_connections": f.slow, "cut_off": cut, "cut_after_s": cutAfter.Round(100 * time.Millisecond).Seconds(),
		"strangers": strangers, "addresses": addresses, "limited_429": limited,
		"p99_before_ms": milliseconds(before), "p99_during_ms": milliseconds(during),
		"memory_idle_mb": idleMemory >> 20, "memory_most_mb": most >> 20,
		"goroutines_idle": goroutines, "goroutines_after": s.goroutines(t),
		"files_idle": files, "files_after": s.openFiles(t),
	}
	s.stop(t)
	t.Logf("%v", f.figures)

	fault := func(wrong bool, text string) {
		if wrong {
			faults = append(faults, text)
		}
	}
	fault(connections < f.slow*9/10, "the slow clients were not there")
	fault(strangers != f.names || addresses != f.addresses, "not all were answered")
	fault(limited == 0, "nobody was limited")
	fault(during > max(timesSlower*before, fastEnough), "the others had to wait")
	fault(cut != f.slow, slowLeft)
	fault(most > mostMemory, memoryGrew)
	fault(!back, notIdle)
	return faults
}

// asMany makes so many GETs by some clients at once, each as if from an address
// of its own that begins so; "" is from their own. It gives the sorted times and
// how many answers of each status there were; 0 is none.
func asMany(address string, clients, requests int, from string, name func(i int) string) (times []time.Duration, statuses map[int]int) {
	statuses = map[int]int{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	var next atomic.Int64
	for range clients {
		asking.Go(func() {
			c := &client{address: address}
			defer c.close()
			for i := int(next.Add(1)); i <= requests; i = int(next.Add(1)) {
				if from != "" {
					c.header = "X-Forwarded-For: " + addressNumber(from, i) + "\r\n"
				}
				begin := time.Now()
				status, _, err := c.get(name(i))
				if err != nil {
					status = 0
				}
				mu.Lock()
				times = append(times, time.Since(begin))
				statuses[status]++
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	slices.Sort(times)
	return times, statuses
}

// addressNumber gives the i-th IPv4 address that begins so.
func addressNumber(from string, i int) string {
	if from == "172" {
		from = fmt.Sprintf("172.%d", 16+i>>16)
	}
	return fmt.Sprintf("%s.%d.%d", from, i>>8&255, i&255)
}

// slowClients send a byte now and then: half of them of a header, half of a body.
type slowClients struct {
	begin time.Time
	conns []net.Conn
	stop  chan struct{}
	all   sync.WaitGroup
	cut   atomic.Int64
	last  atomic.Int64 // when the last was cut off, since begin
}

func newSlowClients(t *testing.T, address string, n int) *slowClients {
	t.Helper()
	s := &slowClients{begin: time.Now(), stop: make(chan struct{})}
	for i := range n {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		s.conns = append(s.conns, conn)
		start := "GET /hello/ana HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
		if i%2 == 1 {
			start = "PUT /hello/ana HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: " + addressNumber("10.4", i) +
				"\r\nContent-Length: 1000\r\n\r\n"
		}
		s.all.Go(func() { s.trickle(conn, start) })
	}
	return s
}

func (s *slowClients) trickle(conn net.Conn, start string) {
	send := func(text string) error {
		_, err := conn.Write([]byte(text))
		return err
	}
	closed := make(chan struct{})
	go func() { // an answer may come first, but the end of the connection must
		defer close(closed)
		rest := make([]byte, 4<<10)
		for {
			if _, err := conn.Read(rest); err != nil {
				return
			}
		}
	}()
	defer func() { <-closed }()
	defer func() { _ = conn.Close() }()
	if send(start) != nil {
		return
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if send("x") == nil {
				continue
			}
		case <-closed:
		case <-s.stop:
			return
		}
		s.cut.Add(1)
		s.last.Store(int64(time.Since(s.begin)))
		return
	}
}

// wait waits until all are cut off, or so long, and gives when the last was and
// how many were.
func (s *slowClients) wait(patience time.Duration) (last time.Duration, cut int) {
	eventually(patience, func() bool { return int(s.cut.Load()) == len(s.conns) })
	return time.Duration(s.last.Load()), int(s.cut.Load())
}

func (s *slowClients) end() {
	close(s.stop)
	s.all.Wait()
}

// eventually waits until something is so, and gives up after a while.
func eventually(patience time.Duration, so func() bool) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if so() {
			return true
		}
	}
	return false
}

// memory gives how much memory the service has in use that is no file's.
func (s *service) memory() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	kilobytes := 0
	_, _ = fmt.Sscanf(rest, "%d", &kilobytes) // 0 would be seen in the figures
	return kilobytes << 10
}

// watchMemory looks at the memory now and then, until the most is asked for.
func (s *service) watchMemory() (most func() int) {
	stop, result := make(chan struct{}), make(chan int)
	go func() {
		most := 0
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, s.memory())
			select {
			case <-tick.C:
			case <-stop:
				result <- most
				return
			}
		}
	}()
	return func() int {
		close(stop)
		return <-result
	}
}

func (s *service) openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	require.NoError(t, err)
	return len(files)
}

func (s *service) goroutines(t *testing.T) (n int) {
	t.Helper()
	_, rest, found := strings.Cut("\n"+s.fetch(t, "/metrics"), "\ngo_goroutines ")
	require.True(t, found)
	_, err := fmt.Sscanf(rest, "%d", &n)
	require.NoError(t, err)
	return n
}
