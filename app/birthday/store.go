package birthday

import (
	"context"
	"errors"
)

var (
	// ErrNotFound says that no person has the username.
	ErrNotFound = errors.New("no such person")

	// ErrUnavailable marks errors of a store that is away, full or being
	// closed: the same call may succeed later. After a write it means
	// "unknown": the write may or may not be kept.
	ErrUnavailable = errors.New("the store is unavailable for now")
)

// Store keeps people by username. It is safe for concurrent use. A Put or
// Delete that returned nil survives a crash of the process and of the machine,
// and every Get that starts after it sees it. Every store passes
// storetest.Run.
type Store interface {
	// Put adds the person, or replaces the birth date of that username.
	Put(ctx context.Context, p Person) error
	// Get gives the person of that username, or ErrNotFound.
	Get(ctx context.Context, name Username) (Person, error)
	// Delete removes the person of that username, or gives ErrNotFound.
	Delete(ctx context.Context, name Username) error
	// After gives up to limit people whose usernames sort after name by
	// their bytes, in that order; "" starts from the first.
	After(ctx context.Context, name Username, limit int) ([]Person, error)
	// Ping gives an error when the store would not take reads and writes now.
	Ping(ctx context.Context) error
	// Close waits for writes that were taken and lets go of the store. Later
	// calls of the other methods give ErrUnavailable.
	Close() error
}
