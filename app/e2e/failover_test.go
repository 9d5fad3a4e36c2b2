package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/postgres/pgtest"
)

// TestAFailoverLosesNothing kills a primary under load and promotes its standby,
// while one service goes on. An asynchronous standby that lags is the planted
// fault: that may lose writes, and `check` says so before it does.
func TestAFailoverLosesNothing(t *testing.T) {
	pgtest.Need(t)
	var all failover
	rounds := size(1, 10)
	for round := range rounds {
		t.Run(fmt.Sprintf("synchronous %d", round+1), func(t *testing.T) {
			f := failover{synchronous: true}
			f.run(t)
			require.Empty(t, f.audit.lost)
			require.Regexp(t, `^ok .* survives the loss of one: synchronous_standby_names = 'standby'`, f.promise)
			all.add(f)
		})
	}
	planted := failover{}
	t.Run("asynchronous", func(t *testing.T) {
		planted.run(t)
		require.NotEmpty(t, planted.audit.lost)
		require.Regexp(t, `^warn .* a failover to a standby may lose the last ones: synchronous_standby_names = ''`, planted.promise)
		t.Logf("the first that was lost: %s", planted.audit.lost[0])
	})
	if t.Failed() {
		return
	}
	proof{
		Proof: "failover",
		Figures: map[string]any{
			"rounds": rounds, "acknowledged": all.audit.acknowledged, "unknown": all.audit.unknown, "lost": len(all.audit.lost),
			"longest_without_acknowledged_writes_ms": all.without.Milliseconds(),
			"longest_of_it_after_the_promotion_ms":   all.afterPromotion.Milliseconds(),
			"slowest_promotion_ms":                   all.promotion.Milliseconds(),
			"asynchronous_acknowledged":              planted.audit.acknowledged,
			"asynchronous_lost":                      len(planted.audit.lost),
		},
		Planted: "an asynchronous standby that lags",
		Caught:  len(planted.audit.lost) > 0,
	}.keep(t)
}

// failover is one loss of a primary.
type failover struct {
	synchronous bool

	promise        string // what check says of the primary
	audit          killAudit
	without        time.Duration // without acknowledged writes
	afterPromotion time.Duration // the part of it when there was a primary again
	promotion      time.Duration
}

// add sums up: counts are added, and of times the longest is kept.
func (f *failover) add(other failover) {
	f.audit.acknowledged += other.audit.acknowledged
	f.audit.unknown += other.audit.unknown
	f.audit.lost = append(f.audit.lost, other.audit.lost...)
	f.without = max(f.without, other.without)
	f.afterPromotion = max(f.afterPromotion, other.afterPromotion)
	f.promotion = max(f.promotion, other.promotion)
}

func (f *failover) run(t *testing.T) {
	t.Helper()
	primary := pgtest.Start(t, pgtest.Options{})
	url := migrated(t, primary)
	standby, err := primary.Standby(t.Context(), f.synchronous)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(standby.Kill(), standby.Close())) }) // to stop it properly takes longer
	url = strings.Replace(url, primary.Address, primary.Address+","+standby.Address, 1) + "&target_session_attrs=read-write"
	f.promise = promise(t, url)

	s := serve(t, url)
	l := startLoad(s)
	defer l.end()
	l.waitMore(t, 1_000)
	if !f.synchronous {
		f.cut(t, standby)
		l.waitMore(t, 500)
	}
	killed := time.Now()
	require.NoError(t, primary.Kill())
	require.Eventually(t, func() bool { return s.readiness() == http.StatusServiceUnavailable }, patience, time.Millisecond)
	begin := time.Now()
	require.NoError(t, standby.Promote(t.Context()))
	promoted := time.Now()
	f.promotion = promoted.Sub(begin)
	s.waitReady(t)
	l.waitMore(t, 1_000)
	l.end()

	f.audit = killAudit{writers: l.writers, acknowledged: int(l.acknowledged.Load())}
	f.audit.compare(s.everyone(t))
	var first time.Time
	f.without, first = l.longestPause(killed)
	f.afterPromotion = max(0, first.Sub(promoted))
	t.Logf("%d acknowledged, %d unknown, %d lost; no acknowledged writes for %s, %s of it after the promotion, which took %s",
		f.audit.acknowledged, f.audit.unknown, len(f.audit.lost), f.without, f.afterPromotion, f.promotion)
	require.Equal(t, http.StatusOK, s.readiness())
	s.stop(t)
}

// cut ends the replication to a standby, as a network that breaks does.
func (f *failover) cut(t *testing.T, standby *pgtest.Server) {
	t.Helper()
	for _, statement := range []string{
		"ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()",
		`DO $$ BEGIN
			WHILE EXISTS (SELECT FROM pg_stat_wal_receiver) LOOP PERFORM pg_sleep(0.005); END LOOP;
		END $$`,
	} {
		require.NoError(t, standby.Exec(t.Context(), "postgres", statement))
	}
}

// promise gives the line of check that says what a 204 is worth.
func promise(t testing.TB, store string) string {
	t.Helper()
	stdout, stderr, code := run(t, "check", "--store="+store, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
	require.Zero(t, code, stdout+stderr)
	line := regexp.MustCompile(`(?m)^\w+ +promise .*(\n .*)*`).FindString(stdout)
	return strings.Join(strings.Fields(line), " ")
}

// load is writers at work, who put each name once, so that no later write hides
// that an earlier one is lost.
type load struct {
	writers      []*auditWriter
	acknowledged atomic.Int64
	times        [][]time.Time // of each writer's 204s
	ended        atomic.Bool
	working      sync.WaitGroup
}

func startLoad(s *service) *load {
	const writers, forEver = 16, 1 << 30
	l := &load{writers: auditWriters(writers, forEver), times: make([][]time.Time, writers)}
	for i, w := range l.writers {
		l.working.Go(func() {
			c := &client{address: s.public}
			defer c.close()
			for !l.ended.Load() {
				if w.put(c) {
					l.times[i] = append(l.times[i], time.Now())
					l.acknowledged.Add(1)
				}
			}
		})
	}
	return l
}

// waitMore waits until so many more writes were acknowledged.
func (l *load) waitMore(t testing.TB, more int64) {
	t.Helper()
	enough := l.acknowledged.Load() + more
	require.Eventually(t, func() bool { return l.acknowledged.Load() >= enough }, time.Minute, time.Millisecond)
}

func (l *load) end() {
	l.ended.Store(true)
	l.working.Wait()
}

// longestPause gives the longest time without a 204 that ended after a moment,
// and when it ended.
func (l *load) longestPause(after time.Time) (pause time.Duration, end time.Time) {
	all := slices.Concat(l.times...)
	slices.SortFunc(all, time.Time.Compare)
	for i := 1; i < len(all); i++ {
		if d := all[i].Sub(all[i-1]); all[i].After(after) && d > pause {
			pause, end = d, all[i]
		}
	}
	return pause, end
}
