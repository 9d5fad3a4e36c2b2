package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"time"

	"github.com/lanrat/extsort"

	"birthday-demo/app/birthday"
	"birthday-demo/app/tempfile"
)

// sorter puts people in the order of their usernames, and keeps of each username the
// last: in memory, and in a temporary file without a name where they are too many.
type sorter struct {
	folder string
	count  int // of those who were added
	in     chan entry
	out    <-chan entry
	failed <-chan error
	begun  chan struct{} // closed when the sort takes no more
	cancel context.CancelFunc
}

// entry is a person at a place of the input.
type entry struct {
	birthday.Person
	prefix uint64 // of the username: most comparisons end here, without following a pointer
	place  int
}

// newSorter sorts until ctx ends: so many people at a time in memory, and more of them
// in the folder. While the disk is slow, five times as many wait in memory. It is to be
// closed.
func newSorter(ctx context.Context, inMemory int, folder string) *sorter {
	const buffered = 1000
	ctx, cancel := context.WithCancel(ctx)
	s := &sorter{folder: folder, in: make(chan entry, buffered), begun: make(chan struct{}), cancel: cancel}
	var sort *extsort.GenericSorter[entry]
	sort, s.out, s.failed = extsort.Generic(s.in, decodeEntry, encodeEntry, compareEntries, &extsort.Config{
		ChunkSize:          inMemory,
		NumWorkers:         1,
		SortedChanBuffSize: buffered,
		TempFilesDir:       folder,
	})
	go func() {
		defer close(s.begun)
		sort.Sort(ctx)
	}()
	return s
}

// add takes one person, or gives the error that the sort has ended with.
func (s *sorter) add(p birthday.Person) error {
	select {
	case s.in <- newEntry(p, s.count):
		s.count++
		return nil
	case <-s.begun:
		return s.fault(<-s.failed)
	}
}

// sorted gives the people in order, or ends with an error. No more can be added.
func (s *sorter) sorted() iter.Seq2[birthday.Person, error] {
	return func(yield func(birthday.Person, error) bool) {
		close(s.in)
		last, some := entry{}, false
		for e := range s.out {
			if some && e.Username != last.Username && !yield(last.Person, nil) {
				return
			}
			last, some = e, true
		}
		if err := <-s.failed; err != nil {
			yield(birthday.Person{}, s.fault(err))
		} else if some {
			yield(last.Person, nil)
		}
	}
}

// fault says what a sort has failed with, and what to do.
func (s *sorter) fault(err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%w: sort people in a temporary file in %s: %w; make space there, or import people in the order of their usernames",
			birthday.ErrUnavailable, s.folder, tempfile.Reason(err))
	}
	return fmt.Errorf("sort people: %w", err)
}

// close gives up what is left.
func (s *sorter) close() {
	s.cancel()
	<-s.begun
	for range s.out { // until the sort has seen it
	}
}

func newEntry(p birthday.Person, place int) entry {
	var start [8]byte
	copy(start[:], p.Username)
	return entry{p, binary.BigEndian.Uint64(start[:]), place}
}

func compareEntries(a, b entry) int {
	if a.prefix != b.prefix {
		return cmp.Compare(a.prefix, b.prefix)
	}
	return cmp.Or(strings.Compare(string(a.Username), string(b.Username)), cmp.Compare(a.place, b.place))
}

// entryHeader is the length of what stands before the username, all big-endian: the
// year in two bytes, month and day in one each, the place in eight.
const entryHeader = 12

var errEntry = errors.New("the temporary file was changed")

func encodeEntry(e entry) ([]byte, error) {
	data := make([]byte, 0, entryHeader+len(e.Username))
	data = binary.BigEndian.AppendUint16(data, uint16(e.Born.Year)) //nolint:gosec // a Date's year is at most 9999
	data = append(data, byte(e.Born.Month), byte(e.Born.Day))       //nolint:gosec // nor is its day above 31
	data = binary.BigEndian.AppendUint64(data, uint64(e.place))     //nolint:gosec // no place is negative
	return append(data, e.Username...), nil
}

func decodeEntry(data []byte) (entry, error) {
	if len(data) < entryHeader {
		return entry{}, errEntry
	}
	born := birthday.Date{Year: int(binary.BigEndian.Uint16(data)), Month: time.Month(data[2]), Day: int(data[3])}
	place := int(binary.BigEndian.Uint64(data[4:])) //nolint:gosec // it was an int
	return newEntry(birthday.Person{Username: birthday.Username(data[entryHeader:]), Born: born}, place), nil
}
