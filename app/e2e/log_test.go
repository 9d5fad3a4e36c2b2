package e2e_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// unread starts a service whose log goes into a pipe, and gives the end that nobody
// reads until the test does.
func unread(t *testing.T) (s *service, log *os.File, folder string) {
	t.Helper()
	log, stderr, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { _ = log.Close() })
	folder = filepath.Join(t.TempDir(), "store")
	require.NoError(t, os.Mkdir(folder, 0o700))
	s = launch{stderr: stderr}.serve(t, filepath.Join(folder, "birthday.db"))
	require.NoError(t, stderr.Close())
	return s, log, folder
}

// ask makes requests and requires the same status of all.
func (s *service) ask(t *testing.T, address, path string, status, requests int) {
	t.Helper()
	c := &client{address: address}
	defer c.close()
	for range requests {
		got, text, err := c.do(http.MethodGet, path, "")
		require.NoError(t, err)
		require.Equal(t, status, got, text)
	}
}

// overfull is more requests than a pipe and the queue have room for lines.
const overfull = 12_000

// TestALogThatNobodyReadsStopsNothing is a shipper that hangs, or Ctrl-S on a
// terminal: every request and probe is answered, and a signal ends the process.
func TestALogThatNobodyReadsStopsNothing(t *testing.T) {
	s, _, _ := unread(t)
	s.ask(t, s.public, "/hello/ana", 404, overfull)
	s.ask(t, s.internal, "/healthz", 200, 1)
	s.ask(t, s.internal, "/readyz", 200, 1)
	begin := time.Now()
	s.stop(t)
	require.Less(t, time.Since(begin), 10*time.Second)
}

// TestALogThatIsReadAgainTellsWhatIsMissing lets the reader come back.
func TestALogThatIsReadAgainTellsWhatIsMissing(t *testing.T) {
	s, log, folder := unread(t)
	s.ask(t, s.public, "/hello/ana", 404, overfull)
	require.NoError(t, os.RemoveAll(folder))
	s.ask(t, s.internal, "/backup", 500, 10) // there is no folder for the copy
	dropped := s.dropped(t)
	require.Positive(t, dropped)

	entries, told := make(chan map[string]int), make(chan struct{})
	go func() {
		tell := sync.OnceFunc(func() { close(told) })
		found := map[string]int{}
		for lines := bufio.NewScanner(log); lines.Scan(); {
			var entry struct {
				Level, Msg string
				Dropped    int
			}
			if json.Unmarshal(lines.Bytes(), &entry) != nil {
				found["broken"]++
			}
			found[entry.Level+" "+entry.Msg]++
			if found["dropped"] += entry.Dropped; found["dropped"] >= dropped {
				tell()
			}
		}
		entries <- found
	}()
	<-told // there is room again
	s.ask(t, s.public, "/hello/ana", 404, 1)
	require.Equal(t, dropped, s.dropped(t), "no more is dropped than what found no room")
	s.stop(t)
	found := <-entries
	require.Zero(t, found["broken"])
	require.Equal(t, dropped, found["dropped"])
	require.Equal(t, 10, found["ERROR request"])
	require.Equal(t, 1, found["INFO stopped"])
	require.Equal(t, overfull+1-dropped, found["INFO request"])
}

// dropped returns how many lines of the log the metrics say are missing.
func (s *service) dropped(t *testing.T) int {
	t.Helper()
	found := regexp.MustCompile(`(?m)^birthday_log_dropped_total (\S+)$`).FindStringSubmatch(s.fetch(t, "/metrics"))
	require.Len(t, found, 2)
	n, err := strconv.ParseFloat(found[1], 64)
	require.NoError(t, err)
	return int(n)
}

// TestTheEndOfTheLogsReaderStopsNothing closes the other end of the pipe.
func TestTheEndOfTheLogsReaderStopsNothing(t *testing.T) {
	s, log, _ := unread(t)
	require.NoError(t, log.Close())
	s.ask(t, s.public, "/hello/ana", 404, 100)
	require.Eventually(t, func() bool { return s.dropped(t) == 100 }, 10*time.Second, 10*time.Millisecond)
	s.stop(t)
}

// TestTheEndOfItsReaderStopsACommand is `export | head`.
func TestTheEndOfItsReaderStopsACommand(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "birthday.db"))
	c := &client{address: s.public}
	defer c.close()
	_, err := c.put("ana", aDate(1))
	require.NoError(t, err)
	output, stdout, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, output.Close())
	command := launch{}.command(t, "export", "--format=jsonl", "--admin=http://"+s.internal)
	command.Stdout = stdout
	require.Error(t, command.Run())
	require.NoError(t, stdout.Close())
	status, ok := command.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.Equal(t, syscall.SIGPIPE, status.Signal())
	s.stop(t)
}
