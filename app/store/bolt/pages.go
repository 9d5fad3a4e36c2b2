package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// This file reads bbolt's pages by their format, bounds checked at every step,
// so that a damaged file ends in an error and never in a crash. The format has
// been the same since 2013; it is written down in bbolt's internal/common
// (page.go, meta.go, inode.go). Numbers are in the byte order of the machine.
//
// A page is a header, its elements, then the elements' keys and values without
// a gap. That they are packed so is checked too: it is what shows a page whose
// number of elements was damaged.
const (
	headerSize  = 16 // id uint64, flags uint16, count uint16, overflow uint32
	elementSize = 16 // leaf: flags, pos, ksize, vsize uint32; branch: pos, ksize uint32, child uint64
	metaSize    = 64 // see meta

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10

	bucketElement = 0x01 // flag of a leaf's element: the value is a bucket

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	noFreelist  = ^uint64(0)
)

var order = binary.NativeEndian

// visitor gives, for the name of a bucket, what to call for each of its pairs, from
// two goroutines at once, and where their number goes.
type visitor func(bucket []byte) (pair func(key, value []byte) error, count *int, err error)

// walker goes through a file once and marks every page that it meets.
type walker struct {
	file     io.ReaderAt
	pageSize uint64
	seen     []atomic.Bool // by page: has its one place, in a tree or in the list of free pages
	spare    []byte        // of a leaf that nobody needs any more
	pairs    int           // visited so far
}

func newWalker(file io.ReaderAt, m meta) *walker {
	w := &walker{file: file, pageSize: m.pageSize, seen: make([]atomic.Bool, m.pages)}
	w.seen[0].Store(true) // the meta pages
	w.seen[1].Store(true)
	return w
}

// walkFile visits every bucket and pair of a bbolt file of the given size, and
// gives an error unless every page is in order.
func walkFile(file io.ReaderAt, size int64, visit visitor) error {
	m, err := readMeta(file, size)
	if err != nil {
		return err
	}
	w := newWalker(file, m)
	if m.freelist != noFreelist {
		if err := w.freelist(m.freelist); err != nil {
			return err
		}
	}
	root := func(flags uint32, key, value []byte) error {
		if flags != bucketElement {
			return errForeign // a pair outside of every bucket
		}
		return w.bucket(key, value, visit)
	}
	if err := w.trees([]element{{child: m.root}}, root); err != nil {
		return err
	}
	for id := range w.seen {
		if !w.seen[id].Load() {
			return fmt.Errorf("page %d is lost: neither used nor free", id)
		}
	}
	return nil
}

// page is one page with its overflow, or the inline page of a small bucket.
type page struct {
	id    uint64
	flags uint16
	count int
	data  []byte // with the header
}

func (p page) fault(what string) error { return fmt.Errorf("page %d: %s", p.id, what) }

// page reads a page, and marks it as seen.
func (w *walker) page(id uint64) (page, error) {
	known := uint64(len(w.seen))
	if id >= known {
		return page{}, fmt.Errorf("page %d is behind the end", id)
	}
	data := w.spare
	if w.spare = nil; data == nil {
		data = make([]byte, w.pageSize)
	}
	if err := w.read(data, id); err != nil {
		return page{}, err
	}
	p := page{id, order.Uint16(data[8:]), int(order.Uint16(data[10:])), data}
	if order.Uint64(data) != id {
		return page{}, p.fault("carries another number")
	}
	overflow := uint64(order.Uint32(data[12:]))
	if id+overflow >= known {
		return page{}, p.fault("overflows the end")
	}
	for i := id; i <= id+overflow; i++ {
		if err := w.mark(i); err != nil {
			return page{}, err
		}
	}
	if overflow > 0 {
		p.data = make([]byte, (1+overflow)*w.pageSize)
		if err := w.read(p.data, id); err != nil {
			return page{}, err
		}
	}
	return p, nil
}

func (w *walker) read(data []byte, id uint64) error {
	if _, err := w.file.ReadAt(data, int64(id*w.pageSize)); err != nil { //nolint:gosec // id is below the file's number of pages
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (w *walker) mark(id uint64) error {
	if w.seen[id].Swap(true) {
		return fmt.Errorf("page %d is used twice", id)
	}
	return nil
}

// freelist marks the free pages, which page id lists in ascending order.
func (w *walker) freelist(id uint64) error {
	p, err := w.page(id)
	if err != nil {
		return err
	}
	list, count := p.data[headerSize:], uint64(p.count) //nolint:gosec // it was a uint16
	if p.count == 0xFFFF {                              // too many for the header: the first number is the count
		count, list = order.Uint64(list), list[8:]
	}
	if p.flags != freelistPage || count > uint64(len(list)/8) {
		return p.fault("is no list of free pages")
	}
	last := uint64(1)
	for i := range count {
		free := order.Uint64(list[8*i:])
		if free <= last || free >= uint64(len(w.seen)) {
			return p.fault("lists free pages that cannot be")
		}
		if err := w.mark(free); err != nil {
			return err
		}
		last = free
	}
	return nil
}

// leafVisitor is called for each element of a leaf.
type leafVisitor func(flags uint32, key, value []byte) error

// bucket visits the pairs of a bucket, whose header is value: the number of its
// root page, or 0 and the page itself when it is small.
func (w *walker) bucket(name, value []byte, visit visitor) error {
	pair, count, err := visit(name)
	if err != nil {
		return err
	}
	before := w.pairs
	defer func() { *count = w.pairs - before }()
	if len(value) < 16 {
		return errors.New("the header of a bucket is cut off")
	}
	leaf := func(flags uint32, key, value []byte) error {
		if flags != 0 {
			return errors.New("a pair is marked as something else")
		}
		return pair(key, value)
	}
	root, inline := order.Uint64(value), value[16:]
	switch {
	case root != 0 && len(inline) == 0:
		return w.halves(root, leaf)
	case root != 0 || len(inline) < headerSize:
		return errors.New("the header of a bucket is damaged")
	}
	p := page{0, order.Uint16(inline[8:]), int(order.Uint16(inline[10:])), inline}
	if p.flags != leafPage {
		return p.fault("is no leaf")
	}
	return w.leaf(p, nil, nil, leaf)
}

// halves visits the leaves below page id, the root of a bucket, in two goroutines:
// to read a large file is most of what a start and a backup take.
func (w *walker) halves(id uint64, leaf leafVisitor) error {
	p, err := w.page(id)
	if err != nil {
		return err
	}
	if p.flags != branchPage {
		return w.below(p, nil, nil, leaf)
	}
	children, err := p.children(nil, nil)
	if err != nil {
		return err
	}
	middle := len(children) / 2
	other, failed := &walker{file: w.file, pageSize: w.pageSize, seen: w.seen}, make(chan error, 1)
	go func() { failed <- other.trees(children[middle:], leaf) }()
	err = w.trees(children[:middle], leaf)
	if otherErr := <-failed; err == nil {
		err = otherErr
	}
	w.pairs += other.pairs
	return err
}

// trees visits the leaves below children of a branch.
func (w *walker) trees(children []element, leaf leafVisitor) error {
	for _, e := range children {
		p, err := w.page(e.child)
		if err != nil {
			return err
		}
		if err := w.below(p, e.key, e.next, leaf); err != nil {
			return err
		}
	}
	return nil
}

// below visits a leaf, or the leaves below a branch. All keys are from low on and,
// unless high is nil, below it.
func (w *walker) below(p page, low, high []byte, leaf leafVisitor) error {
	switch p.flags {
	case leafPage:
		err := w.leaf(p, low, high, leaf)
		w.spare = p.data[:w.pageSize]
		return err
	case branchPage:
		children, err := p.children(low, high)
		if err != nil {
			return err
		}
		return w.trees(children, leaf)
	}
	return p.fault("is neither branch nor leaf")
}

// leaf visits the elements of a leaf.
func (w *walker) leaf(p page, low, high []byte, leaf leafVisitor) error {
	w.pairs += p.count
	return p.elements(low, high, func(e *element) error { return leaf(e.flags, e.key, e.value) })
}

// children gives the elements of a branch.
func (p page) children(low, high []byte) (children []element, err error) {
	if p.count == 0 {
		return nil, p.fault("is a branch without children")
	}
	err = p.elements(low, high, func(e *element) error {
		children = append(children, *e)
		return nil
	})
	return children, err
}

// element is a pair of a leaf, or a child of a branch and its bounds.
type element struct {
	flags      uint32
	key, value []byte
	child      uint64
	next       []byte // the next element's key, or the bound of the page
}

// elements gives each element to visit, and checks that they are packed and
// their keys ascend within the bounds.
func (p page) elements(low, high []byte, visit func(*element) error) error {
	end := headerSize + p.count*elementSize
	if end > len(p.data) {
		return p.fault("has more elements than fit")
	}
	if p.count == 0 && len(bytes.Trim(p.data[end:], "\x00")) > 0 {
		return p.fault("is said to be empty, and is not")
	}
	var pair [2]element
	for i := range p.count {
		e, before := &pair[i%2], &pair[1-i%2]
		behind, err := p.element(i, end, e)
		if err != nil {
			return err
		}
		if i == 0 && bytes.Compare(e.key, low) < 0 || i > 0 && bytes.Compare(e.key, before.key) <= 0 ||
			high != nil && bytes.Compare(e.key, high) >= 0 {
			return p.fault("has keys out of order")
		}
		if i > 0 {
			before.next = e.key
			if err := visit(before); err != nil {
				return err
			}
		}
		end = behind
	}
	if p.count == 0 {
		return nil
	}
	last := &pair[(p.count-1)%2]
	last.next = high
	return visit(last)
}

// element reads element i into e; its key must start at the offset start. It gives
// the offset behind its value.
func (p page) element(i, start int, e *element) (end int, err error) {
	at := headerSize + i*elementSize
	b := p.data[at : at+elementSize]
	var pos, ksize, vsize uint32
	if p.flags == branchPage {
		pos, ksize, e.child = order.Uint32(b), order.Uint32(b[4:]), order.Uint64(b[8:])
	} else {
		e.flags, pos, ksize, vsize = order.Uint32(b), order.Uint32(b[4:]), order.Uint32(b[8:]), order.Uint32(b[12:])
	}
	if at+int(pos) != start || int(ksize)+int(vsize) > len(p.data)-start {
		return 0, p.fault("has an element in the wrong place")
	}
	middle := start + int(ksize)
	end = middle + int(vsize)
	e.key, e.value = p.data[start:middle], p.data[middle:end]
	return end, nil
}
