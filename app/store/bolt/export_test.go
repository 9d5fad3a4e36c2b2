package bolt

import "go.etcd.io/bbolt"

// DB gives the data base below the store, for tests that hold its locks.
func (s *Store) DB() *bbolt.DB { return s.db }

// Update runs a change that tests have made, and commits it.
func (s *Store) Update(change func(*bbolt.Tx) error) error { return s.update(change) }

// RewriteMeta is what Open does before the first commit, on another file.
var RewriteMeta = rewriteMeta
