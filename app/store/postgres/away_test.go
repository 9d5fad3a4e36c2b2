package postgres_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/store/storetest"
)

// bound is how long any call may take, with some time for a slow machine.
const bound = 8 * time.Second

// requireAway does every call at once, and wants each to end soon with the error
// that has the API answer 503.
func requireAway(t *testing.T, s *postgres.Store) {
	t.Helper()
	ctx, start := context.Background(), time.Now()
	calls := map[string]func() error{
		"put": func() error {
			return s.Put(ctx, birthday.Person{Username: "ana", Born: birthday.Date{Year: 1990, Month: 1, Day: 1}})
		},
		"get":    func() error { _, err := s.Get(ctx, "ana"); return err },
		"delete": func() error { return s.Delete(ctx, "nobody") },
		"after":  func() error { _, err := s.After(ctx, "", 1); return err },
		"ping":   func() error { return s.Ping(ctx) },
		"size":   func() error { _, err := s.Size(); return err },
	}
	var all sync.WaitGroup
	for call, do := range calls {
		all.Go(func() {
			if err := do(); !errors.Is(err, birthday.ErrUnavailable) {
				t.Errorf("%s: %v", call, err)
			}
		})
	}
	all.Wait()
	require.Less(t, time.Since(start), bound)
}

// healed waits until the store takes a put again, and gives how long that was.
func healed(t *testing.T, s *postgres.Store) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		err := s.Put(t.Context(), storetest.Person("ana", "1990-05-17"))
		if err == nil {
			require.NoError(t, s.Ping(t.Context()))
			return time.Since(start)
		}
		require.ErrorIs(t, err, birthday.ErrUnavailable)
		require.Less(t, time.Since(start), 20*time.Second)
	}
}

// keepPutting puts people, each once, until the test ends it, and remembers which
// were acknowledged. Errors must be of the kind after which to try again.
func keepPutting(t *testing.T, s *postgres.Store) (end func() []birthday.Person) {
	t.Helper()
	const writers = 8
	quit := make(chan struct{})
	var mu sync.Mutex
	var kept []birthday.Person
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-quit:
					return
				default:
				}
				p := birthday.Person{Username: storetest.Username(i*writers + w), Born: birthday.Date{Year: 1990, Month: 5, Day: 17}}
				start := time.Now()
				err := s.Put(context.Background(), p)
				mu.Lock()
				if err == nil {
					kept = append(kept, p)
				} else if !errors.Is(err, birthday.ErrUnavailable) {
					t.Errorf("put: %v", err)
				}
				mu.Unlock()
				if took := time.Since(start); took > bound {
					t.Errorf("a put took %s", took)
				}
			}
		})
	}
	return func() []birthday.Person {
		close(quit)
		all.Wait()
		return kept
	}
}

// requireKept looks for everyone who was acknowledged.
func requireKept(t *testing.T, s *postgres.Store, acknowledged []birthday.Person) {
	t.Helper()
	kept := map[birthday.Person]bool{}
	for p, err := range s.All(t.Context()) {
		require.NoError(t, err)
		kept[p] = true
	}
	lost := 0
	for _, p := range acknowledged {
		if !kept[p] {
			lost++
		}
	}
	require.Zero(t, lost)
	t.Logf("%d puts were acknowledged, 0 lost", len(acknowledged))
}

// TestAServerThatComesAndGoes does to one server what happens to servers.
func TestAServerThatComesAndGoes(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	url := server.URL(migrated(t, server))
	s := open(t, url)
	healed(t, s)

	t.Run("killed and started again", func(t *testing.T) {
		end := keepPutting(t, s)
		time.Sleep(300 * time.Millisecond)
		require.NoError(t, server.Kill())
		requireAway(t, s)
		require.NoError(t, server.Start())
		t.Logf("healed after %s", healed(t, s))
		requireKept(t, s, end())
	})

	t.Run("stopped under load", func(t *testing.T) {
		end := keepPutting(t, s)
		require.NoError(t, server.Stop())
		require.NoError(t, server.Start())
		t.Logf("healed after %s", healed(t, s))
		requireKept(t, s, end())
	})

	t.Run("connections terminated", func(t *testing.T) {
		end := keepPutting(t, s)
		for range 5 {
			query[int](t, url, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'birthday-demo'")
		}
		healed(t, s)
		requireKept(t, s, end())
	})

	t.Run("turned read-only", func(t *testing.T) {
		set := func(value string) {
			require.NoError(t, server.Exec(t.Context(), "postgres", "ALTER SYSTEM SET default_transaction_read_only = "+value))
			require.NoError(t, server.Exec(t.Context(), "postgres", "SELECT pg_reload_conf()"))
		}
		set("on")
		defer set("off")
		require.Eventually(t, func() bool { return s.Put(t.Context(), storetest.Person("ana", "1990-05-17")) != nil }, bound, 10*time.Millisecond)
		err := s.Ping(t.Context())
		require.ErrorIs(t, err, birthday.ErrUnavailable)
		require.ErrorContains(t, err, "read only connection")
		require.ErrorIs(t, s.Put(t.Context(), storetest.Person("ana", "1990-05-17")), birthday.ErrUnavailable)
		set("off")
		t.Logf("healed after %s", healed(t, s))
	})

	t.Run("a wait for a standby that is cancelled is no success", func(t *testing.T) {
		set := func(names string) {
			require.NoError(t, server.Exec(t.Context(), "postgres", "ALTER SYSTEM SET synchronous_standby_names = '"+names+"'"))
			require.NoError(t, server.Exec(t.Context(), "postgres", "SELECT pg_reload_conf()"))
		}
		set("nobody")
		defer set("")
		result := make(chan error, 1)
		waits := storetest.Person("waits", "1990-05-17")
		go func() {
			for {
				if err := s.Put(context.Background(), waits); err != nil {
					result <- err // not of the first ones: the server takes a moment to know
					return
				}
			}
		}()
		require.Eventually(t, func() bool {
			return query[int](t, url, "SELECT count(*) FILTER (WHERE pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") > 0
		}, bound, 10*time.Millisecond)
		err := <-result
		require.ErrorIs(t, err, birthday.ErrUnavailable)
		require.ErrorContains(t, err, "not confirmed by the standby")
		server, err := s.Inspect(t.Context())
		require.NoError(t, err)
		require.True(t, server.Replicated())
	})
}

// TestFailover kills a primary with a synchronous standby under load, and promotes
// that: the pool of a URL with both finds it, and nothing acknowledged is lost.
func TestFailover(t *testing.T) {
	primary := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	database := migrated(t, primary)
	standby, err := primary.Standby(t.Context(), true)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Close()) })

	both := strings.Replace(primary.URL(database), primary.Address, standby.Address+","+primary.Address, 1) + "&target_session_attrs=read-write"
	s := open(t, both)
	healed(t, s)
	alone := open(t, standby.URL(database))
	require.ErrorIs(t, alone.Ping(t.Context()), birthday.ErrUnavailable)
	_, err = alone.Get(t.Context(), "ana")
	require.ErrorIs(t, err, birthday.ErrUnavailable, "a standby could miss what was just written")

	end := keepPutting(t, s)
	time.Sleep(500 * time.Millisecond)
	require.NoError(t, primary.Kill())
	start := time.Now()
	require.NoError(t, standby.Promote(t.Context()))
	promoted := time.Since(start)
	t.Logf("promoted after %s, healed %s after that", promoted, healed(t, s))
	requireKept(t, s, end())
	require.NoError(t, alone.Ping(t.Context()))
}

// TestABlackHole has a network that takes everything and says nothing.
func TestABlackHole(t *testing.T) {
	t.Parallel() // it mostly waits
	server := pgtest.Shared(t)
	proxy, err := pgtest.NewProxy(server.Address)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	url := strings.Replace(server.URL(migrated(t, server)), server.Address, proxy.Address, 1)
	s := open(t, url)
	var all sync.WaitGroup
	for range 16 { // so that there are many connections
		all.Go(func() {
			for range 50 {
				_, _ = s.Get(context.Background(), "ana")
			}
		})
	}
	all.Wait()
	require.Greater(t, s.Stats().Open, int64(4))

	proxy.Freeze()
	requireAway(t, s)
	require.Eventually(t, func() bool { return s.Stats().Open == 0 }, 5*time.Second, 10*time.Millisecond,
		"connections that lead nowhere neither wait for a call to find out, nor keep their places")
	proxy.Thaw()
	took := healed(t, s)
	t.Logf("healed after %s", took)
	require.Less(t, took, bound)

	proxy.Delay(20 * time.Millisecond)
	healed(t, s)
	proxy.Reset()
	t.Logf("healed from a reset after %s", healed(t, s))
	require.NoError(t, s.Close())
}

// TestAServerThatNeverAnswers is one that there never was.
func TestAServerThatNeverAnswers(t *testing.T) {
	t.Parallel() // it mostly waits
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	s := open(t, "postgres://ana@"+listener.Addr().String()+"/birthdays?sslmode=disable")
	requireAway(t, s)
	start := time.Now()
	require.NoError(t, s.Close())
	require.Less(t, time.Since(start), bound)
}
