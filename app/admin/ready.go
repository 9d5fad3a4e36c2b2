package admin

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Readiness says whether the service should get requests: it was started, is not
// being stopped, and its store would take reads and writes.
type Readiness struct {
	ping func(context.Context) error

	mu     sync.Mutex
	reason string // why it is not up; "" is up

	pinging sync.Mutex // apart, so that a store that hangs keeps nobody from stopping
	last    error      // of ping
	checked time.Time
}

const (
	// pingEvery keeps a crowd of probes from becoming a load on the store.
	pingEvery = time.Second
	// pingTimeout is less than any prober waits.
	pingTimeout = 2 * time.Second
)

// NewReadiness makes a readiness that is down, and asks ping whether the store
// works.
func NewReadiness(ping func(context.Context) error) *Readiness {
	return &Readiness{ping: ping, reason: "starting"}
}

// Up lets requests come.
func (r *Readiness) Up() { r.Down("") }

// Down sends requests away, for a reason that probes are told.
func (r *Readiness) Down(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason = reason
}

// Check gives nil when the service is ready, else the reason why not. The store
// is asked at most once a second.
func (r *Readiness) Check(ctx context.Context) error {
	r.mu.Lock()
	reason := r.reason
	r.mu.Unlock()
	if reason != "" {
		return errors.New(reason)
	}
	r.pinging.Lock()
	defer r.pinging.Unlock()
	if time.Since(r.checked) >= pingEvery {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
		defer cancel()
		r.last, r.checked = r.ping(ctx), time.Now()
	}
	return r.last
}
