package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRestartsFailNobody holds the listening sockets, as systemd does, and
// replaces the service under load.
func TestRestartsFailNobody(t *testing.T) {
	restarts := restartRun{signal: syscall.SIGTERM, restarts: size(10, 40), between: size(500, 1_300)}
	restarts.run(t)
	require.Empty(t, restarts.failed)

	planted := restartRun{signal: syscall.SIGKILL, restarts: 5, between: 500}
	planted.run(t)
	require.NotEmpty(t, planted.failed)
	t.Logf("with SIGKILL: %d failed; the first: %s", len(planted.failed), planted.failed[0])

	proof{
		Proof: "restart",
		Figures: map[string]any{
			"restarts": restarts.restarts, "requests": len(restarts.times), "failed": len(restarts.failed),
			"slowest_ms": milliseconds(restarts.times[len(restarts.times)-1]), "p99_ms": milliseconds(quantile(restarts.times, .99)),
		},
		Planted: "SIGKILL instead of SIGTERM",
		Caught:  len(planted.failed) > 0,
	}.keep(t)
}

// restartRun replaces a service some times, by a signal, each time after so many
// answers.
type restartRun struct {
	signal            syscall.Signal
	restarts, between int

	times  []time.Duration // of good answers, sorted
	failed []string
}

func (r *restartRun) run(t *testing.T) {
	t.Helper()
	l, public := socketActivation(t)
	store := filepath.Join(t.TempDir(), "birthday.db")
	s := l.serve(t, store)
	var mu sync.Mutex
	var answers atomic.Int64
	var end atomic.Bool
	var working sync.WaitGroup
	for number := range 8 {
		working.Go(func() {
			times, failed := useUntil(&end, public, "client"+letters(number), &answers)
			mu.Lock()
			defer mu.Unlock()
			r.times = append(r.times, times...)
			r.failed = append(r.failed, failed...)
		})
	}
	defer func() {
		end.Store(true)
		working.Wait()
		slices.Sort(r.times)
	}()
	for range r.restarts {
		enough := answers.Load() + int64(r.between)
		require.Eventually(t, func() bool { return answers.Load() >= enough }, time.Minute, time.Millisecond)
		s.signal(t, r.signal)
		if code := s.wait(t); r.signal == syscall.SIGTERM {
			require.Zero(t, code, s.stderr.String())
		}
		s = l.serve(t, store)
	}
	end.Store(true)
	working.Wait()
	s.stop(t)
}

// useUntil puts and gets on one connection until the end, and gives the times of
// the good answers and what the others were.
func useUntil(end *atomic.Bool, address, name string, answers *atomic.Int64) (times []time.Duration, failed []string) {
	c := &client{address: address}
	defer c.close()
	for i := 0; !end.Load(); i++ {
		begin := time.Now()
		what, want := "PUT", http.StatusNoContent
		var status int
		var err error
		if i%2 == 0 {
			status, err = c.put(name, aDate(i))
		} else {
			what, want = "GET", http.StatusOK
			status, _, err = c.get(name)
		}
		if err == nil && status == want {
			times = append(times, time.Since(begin))
			answers.Add(1)
			continue
		}
		failed = append(failed, fmt.Sprintf("%s: %d %v", what, status, err))
	}
	return times, failed
}

// socketActivation holds two listening sockets and passes them to the services
// that it starts.
func socketActivation(t *testing.T) (l launch, public string) {
	t.Helper()
	for range 2 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		if public == "" {
			public = listener.Addr().String()
		}
		file, err := listener.(*net.TCPListener).File()
		require.NoError(t, err)
		t.Cleanup(func() {
			_ = file.Close()
			_ = listener.Close()
		})
		l.files = append(l.files, file)
	}
	l.wrapper = asSystemd("LISTEN_PID=$$")
	l.env = []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=public:internal"}
	return l, public
}

// asSystemd is a wrapper that sets variables to the process's number, which only
// it knows in time.
func asSystemd(variables string) []string {
	return []string{"sh", "-c", variables + ` exec "$0" "$@"`}
}

// quantile gives the value below which such a part of the sorted times is.
func quantile(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(part*float64(len(sorted)-1))]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// TestSystemdIsTold listens where systemd would.
func TestSystemdIsTold(t *testing.T) {
	folder, err := os.MkdirTemp("", "birthday-e2e-*") // short enough for a socket's name
	require.NoError(t, err)
	defer func() { _ = os.RemoveAll(folder) }()
	path := filepath.Join(folder, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer func() { _ = socket.Close() }()
	told := func(within time.Duration) string {
		t.Helper()
		message := make([]byte, 1024)
		require.NoError(t, socket.SetReadDeadline(time.Now().Add(within)))
		n, err := socket.Read(message)
		if err != nil {
			return err.Error()
		}
		return string(message[:n])
	}

	const period = 400 * time.Millisecond
	l := launch{
		wrapper: asSystemd("WATCHDOG_PID=$$"),
		env:     []string{"NOTIFY_SOCKET=" + path, fmt.Sprintf("WATCHDOG_USEC=%d", period.Microseconds())},
	}
	s := l.serve(t, filepath.Join(folder, "birthday.db"))
	require.Equal(t, "READY=1", told(patience))
	require.Equal(t, "ready\n", s.fetch(t, "/readyz"))
	for range 3 {
		require.Equal(t, "WATCHDOG=1", told(patience))
	}

	s.signal(t, syscall.SIGSTOP) // the planted fault: it hangs
	var last string
	for range 5 { // what was told before that
		if last = told(2 * period); last != "WATCHDOG=1" {
			break
		}
	}
	require.Contains(t, last, "timeout", "a service that hangs tells nothing")
	s.signal(t, syscall.SIGCONT)
	require.Equal(t, "WATCHDOG=1", told(patience))

	s.signal(t, syscall.SIGTERM)
	for last = "WATCHDOG=1"; last == "WATCHDOG=1"; {
		last = told(patience)
	}
	require.Equal(t, "STOPPING=1", last)
	require.Zero(t, s.wait(t), s.stderr.String())
}
