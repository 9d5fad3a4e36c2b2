package admin_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/admin"
)

// slowStore is a store whose ping can be made to hang, whatever its context says.
type slowStore struct {
	hang    chan struct{} // nil does not
	err     error
	pings   int
	changes []string
}

func (s *slowStore) ping(context.Context) error {
	s.pings++
	if s.hang != nil {
		<-s.hang
	}
	return s.err
}

func (s *slowStore) changed(err error) {
	text := "works"
	if err != nil {
		text = err.Error()
	}
	s.changes = append(s.changes, text)
}

// probe requires an answer within a second, and returns it.
func probe(t *testing.T, r *admin.Readiness) error {
	t.Helper()
	begin := time.Now()
	err := r.Check(t.Context())
	require.Less(t, time.Since(begin), time.Second)
	return err
}

// goroutines counts those of readinesses.
func goroutines() (n int) {
	stacks := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(stack, "admin.(*Readiness)") {
			n++
		}
	}
	return n
}

// TestProbesDoNotQueue lets the store hang, and many probes come at once and then one
// after the other.
func TestProbesDoNotQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{}
		ready := admin.NewReadiness(store.ping, store.changed)
		ready.Up()
		require.NoError(t, probe(t, ready))
		time.Sleep(time.Second)
		store.hang = make(chan struct{})

		var probes sync.WaitGroup
		for range 1000 {
			probes.Go(func() {
				begin := time.Now()
				if err := ready.Check(t.Context()); err != nil || time.Since(begin) >= time.Second {
					t.Errorf("%v after %v", err, time.Since(begin))
				}
			})
		}
		probes.Wait()
		synctest.Wait() // until they are gone
		require.Equal(t, 1, goroutines(), "only the ping is left")
		require.NoError(t, probe(t, ready), "the last answer is young enough")
		require.ErrorContains(t, probe(t, ready), "the store has not answered for 2.4s")
		for range 1000 {
			require.ErrorContains(t, probe(t, ready), "the store has not answered for")
		}
		require.Equal(t, 1, goroutines())
		require.Equal(t, 2, store.pings, "one at a time")

		close(store.hang)
		synctest.Wait()
		require.NoError(t, probe(t, ready))
		require.Equal(t, []string{"the store has not answered for 2.4s", "works"}, store.changes, "each change is told once")
	})
}

// TestARareProbeIsNotToldOldNews lets the store hang long after its last answer.
func TestARareProbeIsNotToldOldNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{}
		ready := admin.NewReadiness(store.ping, store.changed)
		ready.Up()
		require.NoError(t, probe(t, ready))
		time.Sleep(10 * time.Second)
		store.hang = make(chan struct{})
		require.EqualError(t, probe(t, ready), "the store has not answered for 800ms")
		ready.Down("stopping")
		require.EqualError(t, probe(t, ready), "stopping")
		close(store.hang)
	})
}

func TestAStopIsToldToProbesThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{hang: make(chan struct{})}
		ready := admin.NewReadiness(store.ping, store.changed)
		ready.Up()
		answer := make(chan error, 1)
		go func() { answer <- ready.Check(t.Context()) }()
		synctest.Wait()
		store.err = errors.New("closed")
		ready.Down("stopping")
		require.EqualError(t, <-answer, "stopping")
		close(store.hang)
		synctest.Wait()
		require.Empty(t, store.changes, "a store that is being closed is no news")
	})
}

// TestChangesAreToldOnce lets pings fail in all ways they can.
func TestChangesAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{}
		ping := func() error { return nil }
		ready := admin.NewReadiness(func(context.Context) error { return ping() }, store.changed)
		ready.Up()
		check := func(text string) {
			t.Helper()
			time.Sleep(time.Second)
			if err := probe(t, ready); text == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, text)
			}
		}
		check("")
		require.Empty(t, store.changes, "that it works is what was expected")
		ping = func() error { return errors.New("full") }
		check("full")
		check("full")
		ping = func() error { panic("kanarienvogel") }
		check("panic with a string")
		ping = func() error { return nil }
		check("")
		check("")
		require.Equal(t, []string{"full", "works"}, store.changes)
	})
}
