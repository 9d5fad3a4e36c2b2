package e2e_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestKillLosesNothing kills the service again and again under load, and looks
// at each start for everything that was acknowledged.
func TestKillLosesNothing(t *testing.T) {
	n := seed(t)
	program(t) // the first start is measured, too
	audit := killAudit{seed: n, clients: 16, latest: 500 * time.Millisecond, acknowledgements: size(10_000, 500_000), atLeast: size(10, 200)}
	v := inFile(t)
	audit.run(t, v)
	require.Empty(t, audit.lost)

	planted := killAudit{seed: n, clients: 16, latest: 500 * time.Millisecond, acknowledgements: 1_000_000, enough: 1}
	forgetful := inFile(t)
	forgetful.launch = asBroken("forgetful")
	planted.run(t, forgetful)
	t.Logf("the forgetful server: %d acknowledged, %d lost in %d kills; the first: %s",
		planted.acknowledged, len(planted.lost), forgetful.kills, planted.lost[0])

	proof{
		Proof: "kill",
		Figures: map[string]any{
			"seed": n, "kills": v.kills, "acknowledged": audit.acknowledged, "unknown": audit.unknown,
			"lost": len(audit.lost), "slowest_start_ms": v.slowestStart.Milliseconds(),
		},
		Planted: "a server that answers before it keeps",
		Caught:  len(planted.lost) > 0,
	}.keep(t)
}

// TestKillLosesNothingInADatabase is the same in a database, whose server is
// killed in turn with the service.
func TestKillLosesNothingInADatabase(t *testing.T) {
	n := seed(t)
	audit := killAudit{seed: n, clients: 64, latest: 900 * time.Millisecond, acknowledgements: size(10_000, 500_000), atLeast: size(6, 200)}
	server := syncedServer(t)
	v := inDatabase(t, server)
	audit.run(t, v)
	require.Empty(t, audit.lost)

	planted := killAudit{seed: n, clients: 64, latest: 900 * time.Millisecond, acknowledgements: 1_000_000, enough: 1}
	late := inDatabase(t, server)
	for _, statement := range []string{
		"ALTER SYSTEM SET synchronous_commit = off", "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()",
	} {
		require.NoError(t, server.Exec(t.Context(), "postgres", statement))
	}
	planted.run(t, late)
	t.Logf("with synchronous_commit = off: %d acknowledged, %d lost in %d kills; the first: %s",
		planted.acknowledged, len(planted.lost), late.kills, planted.lost[0])

	proof{
		Proof: "kill-postgres",
		Figures: map[string]any{
			"seed": n, "kills": v.kills, "kills_of_the_server": v.serverKills,
			"acknowledged": audit.acknowledged, "unknown": audit.unknown, "lost": len(audit.lost),
			"slowest_start_ms": v.slowestStart.Milliseconds(), "slowest_heal_ms": v.slowestHeal.Milliseconds(),
		},
		Planted: "a server with synchronous_commit = off",
		Caught:  len(planted.lost) > 0,
	}.keep(t)
}

// killAudit kills under load until so much was acknowledged, or enough of it was
// lost.
type killAudit struct {
	seed             uint64
	clients          int
	latest           time.Duration // after a start, to kill
	acknowledgements int
	atLeast          int // as many kills
	enough           int // losses to end at; 0 is never

	acknowledged, unknown int
	lost                  []string
	writers               []*auditWriter
}

// auditWriter puts changing dates to names of its own, and remembers what may be
// there of each.
type auditWriter struct {
	number, names, puts int
	kept                map[string]string   // the date that must be there, unless
	open                map[string][]string // one of these came after it
}

func newAuditWriter(number, names int) *auditWriter {
	return &auditWriter{number: number, names: names, kept: map[string]string{}, open: map[string][]string{}}
}

// auditWriters makes so many writers, each with so many names.
func auditWriters(count, names int) (writers []*auditWriter) {
	for i := range count {
		writers = append(writers, newAuditWriter(i, names))
	}
	return writers
}

func (a *killAudit) run(t *testing.T, v *victims) {
	t.Helper()
	random := rand.New(rand.NewPCG(a.seed, 0))
	a.writers = auditWriters(a.clients, 500)
	for (a.acknowledged < a.acknowledgements || v.kills < a.atLeast) && (a.enough == 0 || len(a.lost) < a.enough) {
		v.start(t)
		a.compare(v.service.everyone(t))
		address := v.service.public
		var acknowledged atomic.Int64
		var writing sync.WaitGroup
		for _, w := range a.writers {
			writing.Go(func() { w.write(address, &acknowledged) })
		}
		const earliest = 100 * time.Millisecond
		time.Sleep(earliest + time.Duration(random.Int64N(int64(a.latest-earliest)))) // the moment of the fault is by chance
		v.kill(t)
		writing.Wait()
		a.acknowledged += int(acknowledged.Load())
	}
	v.start(t)
	a.compare(v.service.everyone(t))
	v.service.stop(t)
}

// write puts until one is not acknowledged.
func (w *auditWriter) write(address string, acknowledged *atomic.Int64) {
	c := &client{address: address}
	defer c.close()
	for w.put(c) {
		acknowledged.Add(1)
	}
}

// put puts the next date, and says whether it was acknowledged.
func (w *auditWriter) put(c *client) bool {
	name, date := w.next()
	status, err := c.put(name, date)
	acknowledged := err == nil && status == http.StatusNoContent
	w.note(name, date, acknowledged)
	return acknowledged
}

// next gives a name of the writer's own, and a date that it did not yet have.
func (w *auditWriter) next() (name, date string) {
	name = fmt.Sprintf("w%sx%s", letters(w.number), letters(w.puts%w.names))
	date = aDate(w.number*2_500 + w.puts/w.names)
	w.puts++
	return name, date
}

// note remembers what may be there of a name, after it was put.
func (w *auditWriter) note(name, date string, acknowledged bool) {
	if acknowledged {
		w.kept[name] = date
		delete(w.open, name)
		return
	}
	w.open[name] = append(w.open[name], date)
}

// compare notes what is not as it may be, and goes on from what is there.
func (a *killAudit) compare(people map[string]string) {
	expected := 0
	for _, w := range a.writers {
		names := maps.Clone(w.kept)
		for name := range w.open {
			names[name] = ""
			a.unknown += len(w.open[name])
		}
		for name := range names {
			is, there := people[name]
			if is != w.kept[name] && !slices.Contains(w.open[name], is) {
				a.lost = append(a.lost, fmt.Sprintf("%s is %q, acknowledged was %q, open are %q", name, is, w.kept[name], w.open[name]))
			}
			delete(w.kept, name)
			if there {
				w.kept[name] = is
				expected++
			}
		}
		clear(w.open)
	}
	if len(people) != expected {
		a.lost = append(a.lost, fmt.Sprintf("%d people are there, %d were put", len(people), expected))
	}
}
