package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/postgres/pgtest"
)

// TestSwitchOver moves from a file to a database under load, by the steps of
// docs/database.md: refuse writes, export, import, serve from there.
func TestSwitchOver(t *testing.T) {
	pgtest.Need(t)
	moving := switchOver{people: size(20_000, 1_000_000)}
	moving.run(t)
	require.Empty(t, moving.lost)
	require.Empty(t, moving.failedReads)

	planted := switchOver{people: 1_000, hasty: true}
	planted.run(t)
	require.NotEmpty(t, planted.lost)

	proof{
		Proof: "switch-over",
		Figures: map[string]any{
			"people": moving.people, "acknowledged": len(moving.acknowledged), "lost": len(moving.lost),
			"reads": moving.reads.Load(), "failed_reads": len(moving.failedReads), "writes_refused_ms": milliseconds(moving.refused),
		},
		Planted: "an export before writes are refused",
		Caught:  len(planted.lost) > 0,
	}.keep(t)
}

// switchOver is one move.
type switchOver struct {
	people int  // in the file at the start
	hasty  bool // export before writes are refused

	service     atomic.Pointer[service] // where a proxy sends requests
	end         atomic.Bool
	reads       atomic.Int64
	silenced    atomic.Int64              // writers that have been refused
	firstNo     atomic.Pointer[time.Time] // when the first was
	lastWriters sync.WaitGroup

	mu                sync.Mutex
	acknowledged      map[string]string
	lost, failedReads []string
	refused           time.Duration
}

const switchOverWriters = 4

func (m *switchOver) run(t *testing.T) {
	t.Helper()
	folder := t.TempDir()
	tokens, newTokens := filepath.Join(folder, "tokens"), filepath.Join(folder, "new-tokens")
	letIn := func(path, token string) {
		require.NoError(t, os.WriteFile(path+".new", []byte(token), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	letIn(tokens, "known")
	file, database := filepath.Join(folder, "birthday.db"), migrated(t, pgtest.Shared(t))
	first := filepath.Join(folder, "first.csv")
	require.NoError(t, os.WriteFile(first, []byte(crowd(m.people)), 0o600))
	m.command(t, "import", "--store="+file, first)
	old := serve(t, file, "--write-tokens-file="+tokens)
	m.service.Store(old)

	m.acknowledged = map[string]string{}
	var readers sync.WaitGroup
	readers.Go(m.read)
	for n := range switchOverWriters {
		m.lastWriters.Go(func() { m.write("writer" + letters(n)) })
	}
	defer func() {
		m.end.Store(true)
		m.lastWriters.Wait()
		readers.Wait()
	}()
	m.untilMore(t)
	everyone := filepath.Join(folder, "people.jsonl")
	if m.hasty {
		m.command(t, "export", "--admin=http://"+old.internal, everyone)
		m.untilMore(t)
	}
	letIn(tokens, "unknown")
	require.Eventually(t, func() bool { return m.silenced.Load() == switchOverWriters }, patience, time.Millisecond)
	if !m.hasty {
		m.command(t, "export", "--admin=http://"+old.internal, everyone)
	}
	m.command(t, "import", "--store="+database, everyone)
	letIn(newTokens, "known") // the old service must not take writes again
	successor := serve(t, database, "--write-tokens-file="+newTokens)
	successor.waitReady(t)
	m.service.Store(successor)
	m.untilMore(t)
	old.stop(t)
	m.end.Store(true)
	m.lastWriters.Wait()

	there := successor.everyone(t)
	for name, date := range m.acknowledged {
		if there[name] != date {
			m.lost = append(m.lost, name)
		}
	}
	require.GreaterOrEqual(t, len(there), m.people)
	successor.stop(t)
}

// command runs a command that must succeed.
func (m *switchOver) command(t *testing.T, args ...string) {
	t.Helper()
	_, stderr, code := run(t, args...)
	require.Zero(t, code, stderr)
}

// untilMore waits until some more writes were acknowledged.
func (m *switchOver) untilMore(t *testing.T) {
	t.Helper()
	count := func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.acknowledged)
	}
	const enough = 100
	before := count()
	require.Eventually(t, func() bool { return count() >= before+enough }, patience, time.Millisecond)
}

// write puts new people. Those who are refused try again somewhat later.
func (m *switchOver) write(prefix string) {
	c := &client{header: "Authorization: Bearer known\r\n"}
	defer c.close()
	silenced := false
	for n := 0; !m.end.Load(); {
		m.turn(c)
		name, date := prefix+letters(n), aDate(n)
		switch status, err := c.put(name, date); {
		case err == nil && status == http.StatusNoContent:
			m.mu.Lock()
			m.acknowledged[name] = date
			if m.silenced.Load() == switchOverWriters && m.refused == 0 {
				m.refused = time.Since(*m.firstNo.Load())
			}
			m.mu.Unlock()
			n++
		default:
			if status == http.StatusUnauthorized && !silenced {
				silenced = true
				now := time.Now()
				m.firstNo.CompareAndSwap(nil, &now)
				m.silenced.Add(1)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// read gets somebody who is always there.
func (m *switchOver) read() {
	c := &client{}
	defer c.close()
	for !m.end.Load() {
		m.turn(c)
		if status, text, err := c.get("crowd" + letters(0)); err != nil || status != http.StatusOK {
			m.mu.Lock()
			m.failedReads = append(m.failedReads, fmt.Sprint(status, text, err))
			m.mu.Unlock()
		}
		m.reads.Add(1)
		time.Sleep(time.Millisecond)
	}
}

// turn has a client go where the proxy would send it now.
func (m *switchOver) turn(c *client) {
	if to := m.service.Load().public; to != c.address {
		c.close()
		c.address = to
	}
}

// crowd writes n people as CSV.
func crowd(n int) string {
	var b strings.Builder
	b.WriteString("username,dateOfBirth\n")
	for i := range n {
		b.WriteString("crowd" + letters(i) + ",1990-05-17\n")
	}
	return b.String()
}
