package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"

	"birthday-demo/app/birthday"
	"birthday-demo/app/people"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/postgres"
)

// store is what the commands need of a store beside its contract.
type store interface {
	birthday.Store
	// PutAll commits people who are sorted by username, each once.
	PutAll(ctx context.Context, people []birthday.Person) error
	// Size is in bytes.
	Size() (int64, error)
}

// openStore opens the store that the settings name: a file, which it makes when
// there is none, or a database, which need not be there yet. The options are for a
// file.
func openStore(ctx context.Context, s *settings, o bolt.Options) (store, error) {
	if s.inDatabase() {
		db, err := postgres.Open(ctx, s.Store, s.database())
		if err != nil {
			return nil, err
		}
		return db, nil
	}
	file, err := bolt.Open(s.Store, o)
	if err != nil {
		return nil, err // it says what was tried, on what, and what to do
	}
	return file, nil
}

// database is what a database needs beside its URL.
func (s *settings) database() postgres.Options {
	return postgres.Options{PasswordFile: s.StorePasswordFile}
}

// openReplicas opens the servers that GET may read from.
func openReplicas(ctx context.Context, s *settings) (*postgres.Store, error) {
	o := s.database()
	o.AnyServer = true
	return postgres.Open(ctx, s.ReadStore, o)
}

// openForCommand opens the store for a command, which must find a database ready:
// nobody waits for it to come. A disk that fails shows in the error of the call
// that it fails.
func openForCommand(ctx context.Context, s *settings) (store, error) {
	opened, err := openStore(ctx, s, bolt.Options{})
	if err != nil || !s.inDatabase() {
		return opened, err
	}
	if err := opened.Ping(ctx); err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, nil
}

// openExisting is openForCommand, and makes no file.
func openExisting(ctx context.Context, s *settings) (store, error) {
	if s.inDatabase() {
		return openForCommand(ctx, s)
	}
	if _, err := os.Stat(s.Store); err != nil {
		return nil, fmt.Errorf("there is no store at %s: name it with --store, or ask a running service with --admin: %w", s.Store, err)
	}
	return openForCommand(ctx, s)
}

// everyoneIn reads everyone in a store for a command: as they were at one moment
// where that takes a snapshot, else a page after the other.
func everyoneIn(ctx context.Context, s store) iter.Seq2[birthday.Person, error] {
	if db, ok := s.(*postgres.Store); ok {
		return db.All(ctx)
	}
	return people.All(ctx, s)
}
