package bolt

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const (
	// warmPiece is how much of a file is read at once, in bytes.
	warmPiece = 1 << 20

	// surelyFits is the size of a file, in bytes, that every page cache has room for.
	surelyFits = 16 << 20

	// progressEvery is how often Open tells how far it is.
	progressEvery = time.Second
)

// warm reads a file once in its own order, so that the walk in the order of names,
// which is all over the file after many changes, finds its pages in the page cache:
// a disk reads neighbours many times faster. A file that does not fit there is left.
func warm(file io.ReaderAt, size int64) error {
	piece := make([]byte, min(size, warmPiece))
	for at := int64(0); at < size; {
		n, err := file.ReadAt(piece[:min(size-at, warmPiece)], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// fitsCache reports whether a file of this size would stay in the page cache: that
// counts against the memory limit of the control group, as of systemd or a container.
func fitsCache(size int64) bool {
	if size <= surelyFits {
		return true
	}
	for _, limit := range []memlimit.Provider{memlimit.FromCgroup, memlimit.FromSystem} {
		if bytes, err := limit(); err == nil && uint64(size) > bytes/4*3 {
			return false
		}
	}
	return true
}

// counted is a file that counts the bytes read from it.
type counted struct {
	io.ReaderAt
	read atomic.Int64
}

// ReadAt reads and counts.
func (c *counted) ReadAt(b []byte, at int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(b, at)
	c.read.Add(int64(n))
	return n, err
}

// tell calls progress now and then while the file is read, and only when it is: a
// disk that hangs makes no progress. It returns how to end that.
func (c *counted) tell(progress func(read, all int64), all int64) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for last := int64(0); ; {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			if read := c.read.Load(); read > last {
				last = read
				progress(min(read, all), all)
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// verifyWarm verifies a file that is open, reading it in its order first where that
// helps, and tells how far it is.
func verifyWarm(file io.ReaderAt, size int64, progress func(read, all int64)) (people int, err error) {
	c := &counted{ReaderAt: file}
	fits := fitsCache(size)
	if progress != nil {
		all := size
		if fits {
			all += size
		}
		defer c.tell(progress, all)()
	}
	if fits {
		if err := warm(c, size); err != nil {
			return 0, err
		}
	}
	return verifyFile(c, size)
}
