package e2e_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
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
	audit := killAudit{seed: n, acknowledgements: size(10_000, 500_000), atLeast: size(10, 200)}
	audit.run(t, launch{})
	require.Empty(t, audit.lost)

	planted := killAudit{seed: n, acknowledgements: 1_000_000, enough: 1}
	planted.run(t, asBroken("forgetful"))
	t.Logf("the forgetful server: %d acknowledged, %d lost in %d kills; the first: %s",
		planted.acknowledged, len(planted.lost), planted.kills, planted.lost[0])

	proof{
		Proof: "kill",
		Figures: map[string]any{
			"seed": n, "kills": audit.kills, "acknowledged": audit.acknowledged, "unknown": audit.unknown,
			"lost": len(audit.lost), "slowest_start_ms": audit.slowestStart.Milliseconds(),
		},
		Planted: "a server that answers before it keeps",
		Caught:  len(planted.lost) > 0,
	}.keep(t)
}

// killAudit kills a service under load until so much was acknowledged, or enough
// of it was lost.
type killAudit struct {
	seed             uint64
	acknowledgements int
	atLeast          int // as many kills
	enough           int // losses to end at; 0 is never

	kills                 int
	acknowledged, unknown int
	lost                  []string
	slowestStart          time.Duration
	writers               []*auditWriter
}

// auditWriter puts changing dates to names of its own, and remembers what may be
// there of each.
type auditWriter struct {
	number, puts int
	kept         map[string]string   // the date that must be there, unless
	open         map[string][]string // one of these came after it
}

func (a *killAudit) run(t *testing.T, l launch) {
	t.Helper()
	random := rand.New(rand.NewPCG(a.seed, 0))
	store := filepath.Join(t.TempDir(), "birthday.db")
	for i := range 16 {
		a.writers = append(a.writers, &auditWriter{number: i, kept: map[string]string{}, open: map[string][]string{}})
	}
	for (a.acknowledged < a.acknowledgements || a.kills < a.atLeast) && (a.enough == 0 || len(a.lost) < a.enough) {
		started := time.Now()
		s := l.serve(t, store)
		a.slowestStart = max(a.slowestStart, time.Since(started))
		a.compare(s.everyone(t))
		var acknowledged atomic.Int64
		var writing sync.WaitGroup
		for _, w := range a.writers {
			writing.Go(func() { w.write(s.public, &acknowledged) })
		}
		time.Sleep(time.Duration(100+random.IntN(400)) * time.Millisecond) // the moment of the fault is by chance
		s.kill()
		writing.Wait()
		a.kills++
		a.acknowledged += int(acknowledged.Load())
	}
	s := l.serve(t, store)
	a.compare(s.everyone(t))
	s.stop(t)
}

// write puts until the service is gone.
func (w *auditWriter) write(address string, acknowledged *atomic.Int64) {
	c := &client{address: address}
	defer c.close()
	for {
		name := fmt.Sprintf("w%sx%s", letters(w.number), letters(w.puts%500))
		date := aDate(w.number*2_500 + w.puts/500)
		w.puts++
		status, err := c.put(name, date)
		if err == nil && status == http.StatusNoContent {
			w.kept[name] = date
			delete(w.open, name)
			acknowledged.Add(1)
			continue
		}
		w.open[name] = append(w.open[name], date)
		if err != nil {
			return
		}
	}
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
