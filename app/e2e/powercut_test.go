//go:build linux

package e2e_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/bolt"
	"birthday-demo/app/testkit"
)

// TestPowerCuts records with strace what the real program does to its files while
// clients write, then builds what the disk may hold after a power cut at any
// moment: all that was synced, and of the rest a random part. Each such image
// must verify, open, and hold what was acknowledged. The program maps its file
// for reading only, so the system calls are all that it does to it.
//
// What the disk may do is taken wide: writes that were not synced are there,
// missing, or torn at 512 bytes, in any combination; so are sizes and, until
// their folder is synced, names.
func TestPowerCuts(t *testing.T) {
	testkit.Needs(t, "strace", "strace")
	images, seed := size(2_000, 20_000), seed(t)
	r := powercutRecord(t, seed)
	start := time.Now()
	sum := powercutJudge(t, []powercutRecording{r}, seed, images, images)
	require.NoError(t, sum.first, "image %d of SEED=%d", sum.at, seed)
	require.Positive(t, sum.nameless, "some cuts come before the store has its name")
	require.Positive(t, sum.acknowledged)
	took := time.Since(start)

	made := slices.IndexFunc(r.syncs, func(s powercutSync) bool { return s.folder })
	var planted, caught []string
	for _, fault := range []struct {
		name string
		skip func(n int, s powercutSync) bool
	}{
		{"a commit without syncs", func(n int, s powercutSync) bool { return n > made && !s.folder }},
		{"without the sync of its data", func(n int, s powercutSync) bool { return n > made && !s.folder && !r.ofMeta(s) }},
		{"without the sync of its meta page", func(n int, s powercutSync) bool { return n > made && !s.folder && r.ofMeta(s) }},
		{"a new store without its syncs", func(n int, _ powercutSync) bool { return n < made }},
		{"without the sync of its folder", func(_ int, s powercutSync) bool { return s.folder }},
	} {
		faulty := r
		faulty.syncs = nil
		for n, s := range r.syncs {
			if !fault.skip(n, s) {
				faulty.syncs = append(faulty.syncs, s)
			}
		}
		found := powercutJudge(t, []powercutRecording{faulty}, seed, images, 1)
		require.Error(t, found.first, "%s, and %d images do not show it", fault.name, images)
		t.Logf("%s: caught by image %d: %v", fault.name, found.at+1, found.first)
		planted = append(planted, fault.name)
		caught = append(caught, strconv.Itoa(found.at+1))
	}
	proof{Proof: "powercut", Figures: map[string]any{
		"images": images, "bad": 0, "seconds": took.Seconds(),
		"recorded_writes": r.writes, "recorded_changes": len(r.changes), "recorded_syncs": len(r.syncs),
		"images_before_the_store_is_there": sum.nameless, "acknowledged_writes_looked_for": sum.acknowledged,
		"sectors_lost": sum.lost, "planted_caught_by_image": strings.Join(caught, ", "),
	}, Planted: strings.Join(planted, "; "), Caught: true}.keep(t)
}

// powercutSum is what many images came to.
type powercutSum struct {
	first                        error // the image at fault with the lowest number
	at                           int
	nameless, acknowledged, lost int
}

// powercutJudge builds images of the recordings in turn and judges them, until limit
// faults. Image n is the same whenever seed and recordings are.
func powercutJudge(t *testing.T, from []powercutRecording, seed uint64, images, limit int) powercutSum {
	t.Helper()
	scratch := powercutScratch(t)
	results := make([]powercutSum, images)
	var next, faults atomic.Int64
	var workers sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for faults.Load() < int64(limit) {
				n := int(next.Add(1)) - 1
				if n >= images {
					return
				}
				folder := filepath.Join(scratch, fmt.Sprint(w))
				random := rand.New(rand.NewPCG(seed, uint64(n)))
				results[n] = from[n%len(from)].image(folder, random)
				if results[n].first != nil {
					faults.Add(1)
				}
			}
		})
	}
	workers.Wait()
	var sum powercutSum
	for n, one := range results {
		if sum.first == nil && one.first != nil {
			sum.first, sum.at = one.first, n
		}
		sum.nameless += one.nameless
		sum.acknowledged += one.acknowledged
		sum.lost += one.lost
	}
	return sum
}

// powercutScratch makes a folder for images: in memory where that can be, since they
// are many, and nobody cuts the power of them.
func powercutScratch(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "powercut-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// image builds what a cut leaves in a folder, and judges it.
func (r powercutRecording) image(folder string, random *rand.Rand) (sum powercutSum) {
	cut := r.cuts[random.IntN(len(r.cuts))]
	if n := random.IntN(7 + len(r.starts)); n < len(r.starts) { // the beginning of each run is short, and worth a look
		first, _ := slices.BinarySearch(r.cuts, r.starts[n])
		cut = r.cuts[min(first+random.IntN(40), len(r.cuts)-1)]
	}
	luck := []float64{0, 0.1, 0.5, 0.9, 1}[random.IntN(5)] // how much of what was not synced is there
	files, names := r.survivors(cut, luck, random, &sum.lost)
	moment := time.Now()
	if cut < len(r.times) {
		moment = r.times[cut]
	}
	sum.first = func() error {
		if err := errors.Join(os.RemoveAll(folder), os.Mkdir(folder, 0o700)); err != nil {
			return err
		}
		for name, file := range names {
			if err := os.WriteFile(filepath.Join(folder, name), files[file], 0o600); err != nil {
				return err
			}
		}
		kept := map[string]string{}
		if _, exists := names[r.store]; !exists {
			sum.nameless++
		} else {
			var err error
			if kept, err = powercutRead(filepath.Join(folder, r.store)); err != nil {
				return err
			}
		}
		return r.audit(kept, moment, &sum.acknowledged)
	}()
	if sum.first != nil {
		sum.first = fmt.Errorf("cut before line %d of %d: %w", cut, len(r.times), sum.first)
	}
	return sum
}

// survivors gives the contents of files, and which file each name is of, after a
// cut.
func (r powercutRecording) survivors(cut int, luck float64, random *rand.Rand, lost *int) (files map[int][]byte, names map[string]int) {
	files, names = map[int][]byte{}, map[string]int{}
	for _, c := range r.changes {
		if c.begin >= cut {
			break
		}
		sure := r.synced(c, cut)
		there := sure || random.Float64() < luck
		content := files[c.file]
		switch {
		case c.what == powercutWrite:
			torn := !sure && random.IntN(3) == 0
			for at := 0; at < len(c.data); at += 512 {
				if torn {
					there = random.Float64() < luck
				}
				if !there {
					*lost++
					continue
				}
				sector := c.data[at:min(at+512, len(c.data))]
				content = powercutSized(content, max(len(content), int(c.at)+at+len(sector)))
				copy(content[int(c.at)+at:], sector)
			}
			files[c.file] = content
		case !there:
		case c.what == powercutResize:
			files[c.file] = powercutSized(content, int(c.at))
		case c.what == powercutName:
			delete(names, c.from)
			names[c.name] = c.file
		case c.what == powercutUnname:
			delete(names, c.name)
		}
	}
	return files, names
}

// synced says whether a change is durable at a cut: the first sync of its file, or of
// the folder that holds its name, that began after it ended before the cut and did
// not fail. After one that failed the kernel takes for written what is not, so that
// later ones pass over it; only what is written again they make durable.
func (r powercutRecording) synced(c powercutChange, cut int) bool {
	ofFolder := c.what == powercutName || c.what == powercutUnname
	later, _ := slices.BinarySearchFunc(r.syncs, c.end+1, func(s powercutSync, line int) int { return cmp.Compare(s.begin, line) })
	for _, s := range r.syncs[later:] {
		if s.folder == ofFolder && (s.folder || s.file == c.file) {
			return !s.failed && s.end < cut
		}
	}
	return false
}

// powercutSized cuts content off or fills it up with zeros.
func powercutSized(content []byte, size int) []byte {
	if size <= len(content) {
		return content[:size]
	}
	return append(content, make([]byte, size-len(content))...)
}

// powercutRead opens a store as the program does, and gives who is in it.
func powercutRead(path string) (kept map[string]string, err error) {
	if _, err := bolt.Verify(path); err != nil {
		return nil, err
	}
	store, err := bolt.Open(path, bolt.Options{Failed: func(error) {}})
	if err != nil {
		return nil, err
	}
	people, err := store.After(context.Background(), "", 1_000_000)
	kept = map[string]string{}
	for _, p := range people {
		kept[string(p.Username)] = p.Born.String()
	}
	return kept, errors.Join(err, store.Close())
}

// audit compares who is kept with what had been tried and acknowledged at a
// moment: the last that was acknowledged, or one that was tried after it.
func (r powercutRecording) audit(kept map[string]string, moment time.Time, acknowledged *int) error {
	for name := range kept {
		if _, known := r.attempts[name]; !known {
			return errors.New("there is someone whom nobody put")
		}
	}
	for name, attempts := range r.attempts {
		right := kept[name] == "" // as before the first attempt
		for _, a := range attempts {
			if a.begun.After(moment) {
				break
			}
			is := kept[name] == a.born
			if a.acknowledged.Before(moment) {
				right = is
				*acknowledged++
			} else {
				right = right || is
			}
		}
		if !right {
			return fmt.Errorf("an acknowledged write is lost, or one kept that was not tried: %.3s is %q", name, kept[name])
		}
	}
	return nil
}
