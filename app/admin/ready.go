package admin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"birthday-demo/app/httpd"
)

// Readiness says whether the service should get requests: it was started, is not
// being stopped, and its store would take reads and writes.
type Readiness struct {
	ping    func(context.Context) error
	changed func(error)

	mu      sync.Mutex
	reason  string        // why it is not up; "" is up
	last    error         // of ping
	checked time.Time     // when last came; zero before
	began   time.Time     // of the ping at work
	answer  chan struct{} // closed when the ping at work has ended; nil without
	failing bool          // what changed was told
}

const (
	// pingEvery keeps a crowd of probes from becoming a load on the store.
	pingEvery = time.Second
	// pingTimeout is what the store gets to answer.
	pingTimeout = 2 * time.Second
	// probeTimeout is what a probe waits for that, less than the second after which
	// probers commonly give up.
	probeTimeout = 800 * time.Millisecond
	// lastTimeout is how long an answer of the store stands for the next: by then that
	// has had its time.
	lastTimeout = pingEvery + pingTimeout
)

// NewReadiness makes a readiness that is down, and asks ping whether the store
// works. changed is called when it stops working, with the reason, and with nil when
// it works again; it must neither block nor call the readiness.
func NewReadiness(ping func(context.Context) error, changed func(error)) *Readiness {
	return &Readiness{ping: ping, changed: changed, reason: "starting"}
}

// Up lets requests come.
func (r *Readiness) Up() { r.Down("") }

// Down sends requests away, for a reason that probes are told.
func (r *Readiness) Down(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason = reason
}

// Check returns nil when the service is ready, else the reason why not. The store
// is asked at most once a second, and once at a time; no probe waits for another.
func (r *Readiness) Check(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason == "" {
		r.wait(r.ask(ctx))
	}
	if r.reason != "" {
		return errors.New(r.reason)
	}
	return r.decide()
}

// ask starts a ping when the last answer is old and none is at work. It returns the
// end of the one at work, if there is one.
func (r *Readiness) ask(ctx context.Context) <-chan struct{} {
	if r.answer == nil && time.Since(r.checked) >= pingEvery {
		r.began, r.answer = time.Now(), make(chan struct{})
		go r.pingOnce(context.WithoutCancel(ctx)) // a prober that leaves spoils nothing
	}
	return r.answer
}

// wait returns when a ping has ended, or took too long. r.mu is free meanwhile.
func (r *Readiness) wait(answer <-chan struct{}) {
	if answer == nil {
		return
	}
	r.mu.Unlock()
	defer r.mu.Lock()
	timer := time.NewTimer(probeTimeout)
	defer timer.Stop()
	select {
	case <-answer:
	case <-timer.C:
	}
}

func (r *Readiness) pingOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	err := r.tryPing(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.checked = err, time.Now()
	close(r.answer)
	r.answer = nil
	_ = r.decide() // it may have been waited for by nobody
}

// tryPing makes an error of a panic, which else would end the process.
func (r *Readiness) tryPing(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic with %s", httpd.PanicText(v))
		}
	}()
	return r.ping(ctx)
}

// decide says whether the store works, and tells when that has changed. Of a store
// that is being closed nobody wants to know.
func (r *Readiness) decide() error {
	err := r.last
	if pinging := r.answer != nil; pinging && time.Since(r.checked) > lastTimeout {
		err = fmt.Errorf("the store has not answered for %v", time.Since(r.began).Round(100*time.Millisecond))
	}
	if failing := err != nil; failing != r.failing && r.reason == "" {
		r.failing = failing
		r.changed(err)
	}
	return err
}
