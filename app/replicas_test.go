package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
)

// fakeReader is a store that counts what it is asked, and answers with err.
type fakeReader struct {
	store
	gets int
	err  error
}

func (c *fakeReader) Get(context.Context, birthday.Username) (birthday.Person, error) {
	c.gets++
	return birthday.Person{}, c.err
}

func TestReplicasThatAreAwayAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		primary, replicas := &fakeReader{}, &fakeReader{err: errors.New("away")}
		w := withReplicas{primary, replicas, new(atomic.Pointer[time.Time])}
		get := func(asked int) {
			t.Helper()
			_, err := w.Get(t.Context(), "ana")
			require.NoError(t, err)
			require.Equal(t, asked, replicas.gets)
		}
		get(1)
		time.Sleep(replicaPause - time.Millisecond)
		get(1)
		time.Sleep(time.Millisecond)
		get(2)
		require.Equal(t, 3, primary.gets)
		replicas.err = nil
		time.Sleep(replicaPause)
		get(3)
		get(4)
		require.Equal(t, 3, primary.gets)
	})
}

// TestTheWallClockIsNotAskedAboutReplicas requires a reading of the monotonic clock,
// which a bubble has not: no step of the other one makes the pause longer.
func TestTheWallClockIsNotAskedAboutReplicas(t *testing.T) {
	w := withReplicas{&fakeReader{}, &fakeReader{err: errors.New("away")}, new(atomic.Pointer[time.Time])}
	_, err := w.Get(t.Context(), "ana")
	require.NoError(t, err)
	require.Contains(t, w.away.Load().String(), " m=")
}
