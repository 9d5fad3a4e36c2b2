package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"birthday-demo/app/birthday"
)

const (
	// replicaTimeout is what a replica gets to answer: behind it waits a reader,
	// who is to hear from the primary then.
	replicaTimeout = time.Second

	// replicaPause is how long replicas are left alone when none has answered.
	replicaPause = 5 * time.Second
)

// withReplicas reads people from replicas, which may be behind, and does everything
// else with the primary.
type withReplicas struct {
	store
	replicas birthday.Store
	away     *atomic.Pointer[time.Time] // when none answered, on the clock that nobody sets; nil before
}

// Get asks a replica, and the primary when none answers.
func (w withReplicas) Get(ctx context.Context, name birthday.Username) (birthday.Person, error) {
	if away := w.away.Load(); away != nil && time.Since(*away) < replicaPause {
		return w.store.Get(ctx, name)
	}
	hasty, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	p, err := w.replicas.Get(hasty, name)
	if err == nil || errors.Is(err, birthday.ErrNotFound) || ctx.Err() != nil {
		return p, err
	}
	now := time.Now()
	w.away.Store(&now)
	return w.store.Get(ctx, name)
}
