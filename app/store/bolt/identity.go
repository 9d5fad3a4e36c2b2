package bolt

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"go.etcd.io/bbolt"
)

// Identity tells which store a file is, or is a copy of.
type Identity struct {
	// ID is what a store and its copies have in common; "" in files of releases
	// before there was one.
	ID string
	// Copy reports whether the file is as a copy was made. One that was opened as a
	// store since is none any more.
	Copy bool
}

// Identify reads the identity of the file at path, and nothing else of it: whether it
// is whole, only Verify tells. It needs no lock, and fails now and then where the
// file is in use.
func Identify(path string) (Identity, error) {
	file, err := os.Open(path) //nolint:gosec // the operator names the path
	if err != nil {
		return Identity{}, openError(path, err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return Identity{}, openError(path, errors.Join(err, errForeign))
	}
	identity, err := identify(file, info.Size())
	return identity, readError(path, err)
}

func identify(file io.ReaderAt, size int64) (identity Identity, err error) {
	first, second, err := readMetas(file)
	if err != nil {
		return identity, err
	}
	newest, err := newer(first, second, size)
	if err != nil {
		return identity, err
	}
	// bbolt writes the meta page of a copy twice, with two numbers, at two places.
	first.txid, first.offset, second.txid, second.offset = 0, 0, 0, 0
	identity.Copy = first == second
	w := newWalker(file, newest)
	err = w.trees([]element{{child: newest.root}}, func(_ uint32, name, header []byte) error {
		if !bytes.Equal(name, metaBucket) {
			return nil
		}
		return w.bucket(name, header, func([]byte) (func(key, value []byte) error, *int, error) {
			return func(key, value []byte) error {
				if bytes.Equal(key, idKey) {
					identity.ID = string(value)
				}
				return nil
			}, new(int), nil
		})
	})
	return identity, err
}

// newID makes the id of a new store.
func newID() []byte { return []byte(rand.Text()) }

// ID is what the store and its copies have in common, and other stores have not.
func (s *Store) ID() string { return s.id }

// WasCopy reports whether the file was a copy when it was opened: one that was
// restored, or put in its place by other means. What was put after the copy was made
// is not in it.
func (s *Store) WasCopy() bool { return s.wasCopy }

// identify notes which store the file is. For whoever serves from it, it makes sure
// that the file has an id and is no copy: whoever removes old copies must not take it
// for one of them, when a copy is served in an emergency, say.
func (s *Store) identify(own bool) error {
	info, err := s.disk.Stat()
	if err != nil {
		return err
	}
	identity, err := identify(s.disk, info.Size())
	if err != nil {
		return err
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		s.commits.Store(uint64(tx.ID())) //nolint:gosec // it counts from 0
		return nil
	})
	s.id, s.wasCopy = identity.ID, identity.Copy
	if err != nil || !own || s.id != "" && !s.wasCopy {
		return err
	}
	id := []byte(s.id)
	if s.id == "" {
		id = newID()
	}
	err = s.update(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(idKey, id) })
	switch {
	case s.full.Load(): // it may be read all the same, and the next start tries again
		return nil
	case err != nil:
		return fmt.Errorf("mark the file as a store: %w", err)
	}
	s.id = string(id)
	return nil
}
