package bolt

import (
	"sync"
	"sync/atomic"
)

// users counts who needs the open file: the store until it is closed, and each
// snapshot.
type users struct {
	closed atomic.Bool // nobody comes any more

	mu    sync.Mutex
	count int
}

// hold adds a user, and reports whether it was in time.
func (u *users) hold() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed.Load() {
		return false
	}
	u.count++
	return true
}

// release takes a user away, and reports whether it was the last.
func (u *users) release() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.count--
	return u.count == 0
}

// close lets nobody come any more.
func (u *users) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed.Store(true)
}
