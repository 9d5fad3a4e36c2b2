package e2e_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// TestEveryoneSeesOneOrder lets clients put, get and delete the same names while
// the service is killed and started, and asks whether one order of all that,
// which respects who answered before whom asked, explains every answer.
func TestEveryoneSeesOneOrder(t *testing.T) {
	proveOneOrder(t, "linearizability", 30_000, inFile)
}

// TestEveryoneSeesOneOrderInADatabase is the same in a database, whose server is
// killed in turn with the service.
func TestEveryoneSeesOneOrderInADatabase(t *testing.T) {
	server := syncedServer(t)
	proveOneOrder(t, "linearizability-postgres", size(6_000, 30_000), func(t testing.TB) *victims {
		t.Helper()
		return inDatabase(t, server)
	})
}

// proveOneOrder judges rounds of so many operations, each on new victims.
func proveOneOrder(t *testing.T, name string, each int, victims func(testing.TB) *victims) {
	t.Helper()
	n := seed(t)
	operations, unknown, kills, serverKills := 0, 0, 0, 0
	judged := time.Duration(0)
	for round := range uint64(size(1, 3)) {
		h, v := newHistory(t, n+round), victims(t)
		h.record(t, v, each, true)
		begin := time.Now()
		require.Equal(t, porcupine.Ok, h.judge(), "seed %d", n+round)
		judged += time.Since(begin)
		operations += len(h.operations)
		unknown += h.unknown
		kills += v.kills
		serverKills += v.serverKills
	}

	planted := newHistory(t, n)
	planted.front = staleReads(t, 50*time.Millisecond)
	planted.record(t, victims(t), 3_000, false)
	verdict := planted.judge()
	require.Equal(t, porcupine.Illegal, verdict)

	figures := map[string]any{
		"seed": n, "operations": operations, "unknown": unknown, "kills": kills, "clients": orderClients,
		"names": orderNames, "judged_in_ms": judged.Milliseconds(),
	}
	if serverKills > 0 {
		figures["kills_of_the_server"] = serverKills
	}
	proof{
		Proof: name, Figures: figures,
		Planted: "a proxy that gives answers of 50 ms ago",
		Caught:  verdict == porcupine.Illegal,
	}.keep(t)
}

const (
	orderClients = 16
	orderNames   = 32
)

// history is what clients asked and were answered. A value is the number of days
// left, which is all that the service tells of a date; 0 is a stranger.
type history struct {
	seed       uint64
	zone       string
	dates      []string                              // by days left; "" is none
	front      func(backend string) (address string) // what stands before the service
	begin      time.Time
	unknown    int
	operations []porcupine.Operation

	mu   sync.Mutex
	puts [orderNames]int
}

type asked struct {
	method string
	name   int
	days   int // of a PUT
}

type answered struct {
	known bool
	days  int  // of a GET
	found bool // of a DELETE
}

func newHistory(t *testing.T, seed uint64) *history {
	t.Helper()
	h := &history{seed: seed, begin: time.Now()}
	today := h.chooseZone(t)
	h.dates = make([]string, 360)
	for days := 1; days < len(h.dates); days++ {
		birthday := today.AddDate(0, 0, days)
		if birthday.Month() == time.February && birthday.Day() == 29 {
			continue // celebrated on another day in other years
		}
		h.dates[days] = fmt.Sprintf("%d-%s", today.Year()-30, birthday.Format("01-02"))
	}
	return h
}

// chooseZone takes a time zone in which no midnight is near, and gives its today.
func (h *history) chooseZone(t *testing.T) time.Time {
	t.Helper()
	best := 24.0
	var today time.Time
	for _, name := range []string{"UTC", "Asia/Tokyo", "America/Los_Angeles"} {
		zone, err := time.LoadLocation(name)
		require.NoError(t, err)
		now := h.begin.In(zone)
		if fromNoon := math.Abs(float64(now.Hour()) - 12); fromNoon < best {
			best, h.zone, today = fromNoon, name, now
		}
	}
	return time.Date(today.Year(), today.Month(), today.Day(), 0, 0, 0, 0, time.UTC)
}

// record lets the clients work until so many operations are done.
func (h *history) record(t *testing.T, v *victims, operations int, kill bool) {
	t.Helper()
	random := rand.New(rand.NewPCG(h.seed, 1))
	v.args = []string{"--time-zone=" + h.zone}
	var left atomic.Int64
	left.Store(int64(operations))
	for left.Load() > 0 {
		v.start(t)
		address := v.service.public
		if h.front != nil {
			address = h.front(address)
		}
		done := make(chan struct{})
		var working sync.WaitGroup
		for number := range orderClients {
			client := &orderClient{
				history: h, number: number, client: client{address: address},
				random: rand.New(rand.NewPCG(h.seed, uint64(100+v.kills*orderClients+number))),
			}
			working.Go(func() { client.work(&left) })
		}
		go func() {
			working.Wait()
			close(done)
		}()
		var moment <-chan time.Time
		if kill {
			moment = time.After(time.Duration(100+random.IntN(400)) * time.Millisecond)
		}
		select {
		case <-moment:
			v.kill(t)
			<-done
		case <-done:
		}
	}
	v.start(t)
	v.service.stop(t)
	end := time.Since(h.begin).Nanoseconds()
	for i := range h.operations {
		if !h.operations[i].Output.(answered).known {
			h.operations[i].Return = end // it may have happened at any time since
			h.unknown++
		}
	}
}

// orderClient is one client until something is without an answer.
type orderClient struct {
	*history
	client

	number int
	random *rand.Rand
}

func (c *orderClient) work(left *atomic.Int64) {
	defer c.close()
	var mine []porcupine.Operation
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.operations = append(c.operations, mine...)
	}()
	for left.Add(-1) >= 0 {
		in := c.choose()
		call := time.Since(c.begin).Nanoseconds()
		out, err := c.ask(in)
		if errors.Is(err, errNoConnection) {
			return // nothing was asked
		}
		if out.known || in.method != http.MethodGet { // a GET without an answer tells nothing
			mine = append(mine, porcupine.Operation{
				ClientId: c.number, Input: in, Call: call,
				Output: out, Return: time.Since(c.begin).Nanoseconds(),
			})
		}
		if !out.known {
			return
		}
	}
}

// choose gives the next thing to ask. The dates put to one name differ for long.
func (c *orderClient) choose() asked {
	in := asked{name: c.random.IntN(orderNames)}
	switch chance := c.random.IntN(10); {
	case chance < 4:
		in.method = http.MethodPut
		c.mu.Lock()
		defer c.mu.Unlock()
		for in.days == 0 || c.dates[in.days] == "" {
			c.puts[in.name]++
			in.days = c.puts[in.name] % len(c.dates)
		}
	case chance < 9:
		in.method = http.MethodGet
	default:
		in.method = http.MethodDelete
	}
	return in
}

// ask makes the request. An error means that the connection broke.
func (c *orderClient) ask(in asked) (answered, error) {
	name := "name" + letters(in.name)
	var status int
	var text string
	var err error
	switch in.method {
	case http.MethodPut:
		status, err = c.put(name, c.dates[in.days])
	case http.MethodGet:
		status, text, err = c.get(name)
	default:
		status, err = c.delete(name)
	}
	switch {
	case err != nil || status >= http.StatusInternalServerError:
		return answered{}, err
	case status == http.StatusNotFound:
		return answered{known: true}, nil
	case status == http.StatusNoContent:
		return answered{known: true, found: true}, nil
	}
	out := answered{known: true, days: -1} // what no model explains
	if _, rest, ok := strings.Cut(text, "Your birthday is in "); ok {
		_, _ = fmt.Sscanf(rest, "%d", &out.days) // else it stays -1
	}
	return out, nil
}

// judge says whether one order explains the history.
func (h *history) judge() porcupine.CheckResult {
	model := porcupine.Model{
		Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
			byName := make([][]porcupine.Operation, orderNames)
			for _, operation := range all {
				name := operation.Input.(asked).name
				byName[name] = append(byName[name], operation)
			}
			return byName
		},
		Init: func() any { return 0 },
		Step: func(state, input, output any) (bool, any) {
			days, in, out := state.(int), input.(asked), output.(answered)
			switch in.method {
			case http.MethodPut:
				return !out.known || out.found, in.days
			case http.MethodGet:
				return out.days == days, days
			default:
				return !out.known || out.found == (days != 0), 0
			}
		},
	}
	return porcupine.CheckOperationsTimeout(model, h.operations, 2*time.Minute)
}

// staleReads is a proxy that keeps answers of GET for a while.
func staleReads(t *testing.T, keep time.Duration) func(backend string) string {
	t.Helper()
	return func(backend string) string {
		transport := &http.Transport{MaxIdleConnsPerHost: orderClients}
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: backend})
		proxy.Transport = transport
		type kept struct {
			*httptest.ResponseRecorder
			since time.Time
		}
		var answers sync.Map // kept by path
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet {
				proxy.ServeHTTP(w, r)
				return
			}
			answer, ok := answers.Load(r.URL.Path)
			if !ok || time.Since(answer.(kept).since) > keep {
				fresh := kept{httptest.NewRecorder(), time.Now()}
				proxy.ServeHTTP(fresh, r)
				answers.Store(r.URL.Path, fresh)
				answer = fresh
			}
			w.WriteHeader(answer.(kept).Code)
			_, _ = w.Write(answer.(kept).Body.Bytes()) // its client's trouble
		}))
		t.Cleanup(func() {
			server.Close()
			transport.CloseIdleConnections()
		})
		return strings.TrimPrefix(server.URL, "http://")
	}
}
