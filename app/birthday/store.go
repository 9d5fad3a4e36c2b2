package birthday

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	// their bytes, in that order; "" starts from the first. One whose kept
	// birth date is no Date, for which Get gives an error, has the zero Date.
	After(ctx context.Context, name Username, limit int) ([]Person, error)
	// Ping gives an error when the store would not take reads and writes now.
	Ping(ctx context.Context) error
	// Close waits for writes that were taken and lets go of the store. Later
	// calls of the other methods give ErrUnavailable.
	Close() error
}

// LeftOutError says that people are missing in what was otherwise done to its end,
// since the birth date that a store keeps of them is no Date. It does not name them.
type LeftOutError struct {
	Count  int
	Places []int // of the first of them, in the order of names, from 1; nil where nobody knows
}

// maxPlaces is how many a LeftOutError tells.
const maxPlaces = 20

// Add counts one who is left out.
func (e *LeftOutError) Add(place int) {
	e.Count++
	if len(e.Places) < maxPlaces {
		e.Places = append(e.Places, place)
	}
}

// Error says how many, where they are, and what to do.
func (e *LeftOutError) Error() string {
	text := fmt.Sprintf("people whose birth date is no day from 0001-01-01 to 9999-12-31 are left out: %d", e.Count)
	if len(e.Places) > 0 {
		text += "; the first of their places in the order of names: " + strings.Trim(fmt.Sprint(e.Places), "[]")
	}
	return text + "; `check` of the database they come from tells how to find them"
}
