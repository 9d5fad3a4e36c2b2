package coalesce_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"birthday-demo/app/store/coalesce"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is a commit function that remembers batches; each takes a second.
type disk struct {
	batches [][]string
	fail    func(items []string) error
}

func (d *disk) commit(items []string) error {
	time.Sleep(time.Second)
	if d.fail != nil {
		if err := d.fail(items); err != nil {
			return err
		}
	}
	d.batches = append(d.batches, slices.Clone(items))
	return nil
}

// doAll calls Do for every item at once and gives the errors by item, and how
// long it all took.
func doAll(w *coalesce.Writer[string], items ...string) (map[string]error, time.Duration) {
	start, results := time.Now(), make(map[string]error)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, item := range items {
		all.Go(func() {
			err := w.Do(context.Background(), item)
			mu.Lock()
			defer mu.Unlock()
			results[item] = err
		})
	}
	all.Wait()
	return results, time.Since(start)
}

func TestALoneWriterWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		w := coalesce.New(100, d.commit)
		defer w.Close()
		start := time.Now()
		require.NoError(t, w.Do(t.Context(), "a"))
		require.Equal(t, time.Second, time.Since(start))
		require.Equal(t, [][]string{{"a"}}, d.batches)
	})
}

func TestWritersShareACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		w := coalesce.New(100, d.commit)
		defer w.Close()
		go func() { _ = w.Do(context.Background(), "first") }()
		synctest.Wait() // "first" is being committed, the others gather behind it
		items := make([]string, 50)
		for i := range items {
			items[i] = strconv.Itoa(i)
		}
		results, took := doAll(w, items...)
		require.Equal(t, 2*time.Second, took, "the rest of the first commit and one for all others")
		require.Len(t, results, 50)
		for item, err := range results {
			require.NoError(t, err, item)
		}
		require.Len(t, d.batches, 2)
		require.Len(t, d.batches[1], 50)
	})
}

func TestThoseWhoComeBackTogetherShareTheNextCommit(t *testing.T) {
	const clients, rounds = 32, 20
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that who runs when is the scheduler's alone
	commits := 0
	w := coalesce.New(100, func([]int) error {
		commits++
		runtime.Gosched() // while the disk syncs
		return nil
	})
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			for range rounds {
				_ = w.Do(context.Background(), n) // a failure is another test's
			}
		})
	}
	all.Wait()
	w.Close()
	require.Less(t, commits, rounds*3/2, "of %d clients who write %d times each", clients, rounds)
}

// TestALoneWriterLetsNobodyGoFirst has a machine with more to do than it can.
func TestALoneWriterLetsNobodyGoFirst(t *testing.T) {
	const others, puts = 50, 100
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var turns atomic.Int64
	var stop atomic.Bool
	var all sync.WaitGroup
	defer all.Wait()
	defer stop.Store(true)
	for range others {
		all.Go(func() {
			for !stop.Load() {
				turns.Add(1)
				runtime.Gosched()
			}
		})
	}
	w := coalesce.New(100, func([]int) error { return nil })
	defer w.Close()
	before := turns.Load()
	for n := range puts {
		require.NoError(t, w.Do(t.Context(), n))
	}
	require.Less(t, turns.Load()-before, int64(others*puts/2))
}

func TestBatchesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		w := coalesce.New(2, d.commit)
		defer w.Close()
		doAll(w, "a", "b", "c", "d", "e")
		for _, batch := range d.batches {
			require.LessOrEqual(t, len(batch), 2)
		}
	})
}

func TestAFailingItemDoesNotFailItsNeighbours(t *testing.T) {
	cause := errors.New("bad item")
	faults := map[string]func() error{
		"error":            func() error { return errors.Join(coalesce.ErrAborted, cause) },
		"panic":            func() error { panic(cause) },
		"panic with text":  func() error { panic("no error value") },
		"panic of runtime": func() error { var none []int; return errors.New(strconv.Itoa(none[len(cause.Error())])) },
	}
	for what, fault := range faults {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &disk{fail: func(items []string) error {
					if slices.Contains(items, "bad") {
						return fault()
					}
					return nil
				}}
				w := coalesce.New(100, d.commit)
				defer w.Close()
				go func() { _ = w.Do(context.Background(), "first") }()
				synctest.Wait()
				results, _ := doAll(w, "a", "bad", "b")
				require.NoError(t, results["a"])
				require.NoError(t, results["b"])
				require.ErrorIs(t, results["bad"], coalesce.ErrAborted)
				require.NoError(t, w.Do(t.Context(), "later"), "the writer goes on")
			})
		})
	}
}

func TestAFailedCommitIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken, calls := errors.New("sync failed"), 0
		d := &disk{fail: func([]string) error { calls++; return broken }}
		w := coalesce.New(100, d.commit)
		defer w.Close()
		go func() { _ = w.Do(context.Background(), "first") }()
		synctest.Wait()
		results, _ := doAll(w, "a", "b", "c")
		for item, err := range results {
			require.ErrorIs(t, err, broken, item)
		}
		require.Equal(t, 2, calls)
	})
}

func TestAPanicDoesNotTellTheItem(t *testing.T) {
	w := coalesce.New(100, func(items []string) error { panic("cannot write " + items[0]) })
	defer w.Close()
	err := w.Do(t.Context(), "secret")
	require.ErrorIs(t, err, coalesce.ErrAborted)
	require.NotContains(t, err.Error(), "secret")
}

func TestCancelBeforeTheCommitWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		w := coalesce.New(100, d.commit)
		defer w.Close()
		go func() { _ = w.Do(context.Background(), "first") }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		err := w.Do(ctx, "late")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, coalesce.ErrUnknown)
		require.NoError(t, w.Do(t.Context(), "next"))
		require.Equal(t, [][]string{{"first"}, {"next"}}, d.batches)
	})
}

func TestCancelDuringTheCommitIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		w := coalesce.New(100, d.commit)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		err := w.Do(ctx, "a")
		require.ErrorIs(t, err, coalesce.ErrUnknown)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Millisecond, time.Since(start), "an impatient caller does not wait")
		w.Close()
		require.Equal(t, [][]string{{"a"}}, d.batches, "and its item is written all the same")
	})
}

func TestACallWhoseCallerGaveUpIsDropped(t *testing.T) {
	commits := 0
	w := coalesce.New(100, func([]string) error { commits++; return nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 1000 { // the hand-over and the cancel are both ready: select picks either
		require.ErrorIs(t, w.Do(ctx, "a"), context.Canceled)
	}
	w.Close()
	require.Zero(t, commits)
}

func TestCloseFinishesTheBatchAndRefusesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		w := coalesce.New(100, d.commit)
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- w.Do(context.Background(), "first") }()
		synctest.Wait()
		go func() { second <- w.Do(context.Background(), "second") }()
		synctest.Wait()
		w.Close()
		w.Close()
		require.NoError(t, <-first)
		require.ErrorIs(t, <-second, coalesce.ErrClosed)
		require.ErrorIs(t, w.Do(t.Context(), "third"), coalesce.ErrClosed)
		require.Equal(t, [][]string{{"first"}}, d.batches)
	})
}

// TestNothingAcknowledgedIsLost runs writers that panic, cancel and close in
// mid-traffic, for the race detector, and compares every nil with what was
// committed.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	committed := map[string]bool{}
	w := coalesce.New(16, func(items []string) error {
		if slices.Contains(items, "panic") {
			panic("planted")
		}
		for _, item := range items {
			committed[item] = true
		}
		return nil
	})
	var acknowledged sync.Map
	var count atomic.Int64
	var all sync.WaitGroup
	for n := range 32 {
		all.Go(func() {
			for i := 0; ; i++ {
				item := strconv.Itoa(n) + "/" + strconv.Itoa(i)
				if i%10 == 9 {
					item = "panic"
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%3)*time.Millisecond)
				err := w.Do(ctx, item)
				cancel()
				if errors.Is(err, coalesce.ErrClosed) {
					return
				}
				if err == nil {
					acknowledged.Store(item, true)
					count.Add(1)
				}
			}
		})
	}
	require.Eventually(t, func() bool { return count.Load() > 1000 }, 10*time.Second, time.Millisecond)
	w.Close()
	all.Wait()
	acknowledged.Range(func(item, _ any) bool {
		require.Contains(t, committed, item)
		return true
	})
}
