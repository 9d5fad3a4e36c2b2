package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/bolt"
)

// store is what the commands need of a store beside its contract.
type store interface {
	birthday.Store
	// PutAll commits people who are sorted by username, each once.
	PutAll(ctx context.Context, people []birthday.Person) error
	// Backup writes a consistent copy.
	Backup(w io.Writer) (int64, error)
	// Size is in bytes.
	Size() (int64, error)
}

// openStore opens the store that a setting names, or makes it. It calls onFail
// when the store can no longer be trusted and the process should end.
func openStore(name string, onFail func(error)) (store, error) {
	s, err := bolt.Open(name, onFail)
	if err != nil {
		return nil, err // it says what was tried, on what, and what to do
	}
	return s, nil
}

// openExisting opens a store for a command, and makes none. A disk that fails
// shows in the error of the call that it fails.
func openExisting(name string) (store, error) {
	if _, err := os.Stat(name); err != nil {
		return nil, fmt.Errorf("there is no store at %s: name it with --store, or ask a running service with --admin: %w", name, err)
	}
	return openStore(name, func(error) {})
}
