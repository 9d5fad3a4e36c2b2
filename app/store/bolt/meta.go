package bolt

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// This file reads the two meta pages of a file, of which the newer one counts.

// meta is what a meta page says of the file.
type meta struct {
	pageSize, root, freelist, pages, txid uint64
	offset                                int64 // of the meta page itself
}

// readMeta reads both meta pages and returns the newer one.
func readMeta(file io.ReaderAt, size int64) (meta, error) {
	first, second, err := readMetas(file)
	if err != nil {
		return meta{}, err
	}
	return newer(first, second, size)
}

// readMetas reads both meta pages. A crash never leaves a damaged one: it is written
// alone, and fits one sector of a disk.
func readMetas(file io.ReaderAt) (first, second meta, err error) {
	if first, err = metaAt(file, 0); err != nil {
		return meta{}, meta{}, err
	}
	if second, err = metaAt(file, int64(first.pageSize)); err != nil { //nolint:gosec // a checksum guards the number, and 32 bits held it
		return meta{}, meta{}, err
	}
	return first, second, nil
}

// newer returns the newer of the two, which must speak of no more than the file holds.
func newer(first, second meta, size int64) (meta, error) {
	newest := first
	if second.txid > first.txid {
		newest = second
	}
	if held := uint64(size) / newest.pageSize; newest.pages > held || newest.pages < 2 { //nolint:gosec // a file's size is not negative
		return meta{}, fmt.Errorf("it is cut off: %d of %d pages", held, newest.pages)
	}
	return newest, nil
}

func metaAt(file io.ReaderAt, offset int64) (meta, error) {
	page := make([]byte, headerSize+metaSize)
	if _, err := file.ReadAt(page, offset); err != nil {
		return meta{}, fmt.Errorf("meta page: %w", err)
	}
	b := page[headerSize:]
	if order.Uint32(b) != metaMagic || order.Uint32(b[4:]) != metaVersion {
		return meta{}, errForeign
	}
	sum := fnv.New64a()
	_, _ = sum.Write(b[:56]) // never fails, by the contract of hash.Hash
	if order.Uint64(b[56:]) != sum.Sum64() {
		return meta{}, errors.New("the checksum of a meta page is wrong")
	}
	m := meta{
		pageSize: uint64(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]), // and a sequence that is not used
		freelist: order.Uint64(b[32:]),
		pages:    order.Uint64(b[40:]),
		txid:     order.Uint64(b[48:]),
		offset:   offset,
	}
	if m.pageSize < 1024 {
		return meta{}, fmt.Errorf("a page size of %d", m.pageSize)
	}
	return m, nil
}
