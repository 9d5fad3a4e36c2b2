package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestACopyIsAPrefix copies a service that is being written to. Each writer
// writes one name after the other, so a copy of one moment has the first of them
// without a hole, and all that were acknowledged before the copy began.
func TestACopyIsAPrefix(t *testing.T) {
	folder := t.TempDir()
	others := size(20_000, 200_000) // so that a copy takes its time
	s := serve(t, storeOf(t, folder, others))
	var sequences [8]sequence
	var end atomic.Bool
	var writing sync.WaitGroup
	for i := range sequences {
		sequences[i].number = i
		writing.Go(func() { sequences[i].write(&end, s.public) })
	}
	defer writing.Wait()
	defer end.Store(true)
	acknowledged := func() (steps [len(sequences)]int) {
		for i := range sequences {
			steps[i] = int(sequences[i].acknowledged.Load())
		}
		return steps
	}

	copies := size(8, 60)
	var faults []string
	written, least := 0, 0
	var slowest time.Duration
	var first map[string]string // for the planted faults
	for i := range copies {
		goal := sum(acknowledged()) + 200
		require.Eventually(t, func() bool { return sum(acknowledged()) >= goal }, time.Minute, time.Millisecond, "they write on")
		before := acknowledged()
		path := filepath.Join(folder, fmt.Sprintf("copy-%d.db", i))
		begin := time.Now()
		_, stderr, code := run(t, "backup", "--quiet", "--admin=http://"+s.internal, path)
		require.Zero(t, code, stderr)
		slowest = max(slowest, time.Since(begin))
		kept := restored(t, path)
		require.Equal(t, others, removeOthers(kept))
		faults = append(faults, copyFaults(before[:], kept)...)
		written, least = len(kept), sum(before)
		if first == nil {
			first = kept
		}
	}
	require.Empty(t, faults)

	last := acknowledged()
	stale := copyFaults(last[:], first)
	require.NotEmpty(t, stale)
	require.Contains(t, first, sequences[3].name(2))
	delete(first, sequences[3].name(1))
	hole := copyFaults(make([]int, len(sequences)), first)
	require.Len(t, hole, 1)
	t.Logf("an old copy: %s; a hole: %s", stale[0], hole[0])

	end.Store(true)
	writing.Wait()
	s.stop(t)
	for i := range sequences {
		require.Empty(t, sequences[i].failed)
	}
	proof{
		Proof: "backup",
		Figures: map[string]any{
			"copies": copies, "people": others + written, "written_in_the_last": written, "acknowledged_before_it": least, "missing_or_out_of_order": len(faults),
			"slowest_copy_ms": slowest.Milliseconds(),
		},
		Planted: "an old copy; a copy without one person",
		Caught:  len(stale) > 0 && len(hole) > 0,
	}.keep(t)
}

// storeOf gives a store with so many others in it.
func storeOf(t *testing.T, folder string, others int) (path string) {
	t.Helper()
	var lines strings.Builder
	for i := range others {
		fmt.Fprintf(&lines, "{\"username\": \"other%s\", \"dateOfBirth\": \"%s\"}\n", letters(i), aDate(i))
	}
	list := filepath.Join(folder, "others.jsonl")
	require.NoError(t, os.WriteFile(list, []byte(lines.String()), 0o600))
	path = filepath.Join(folder, "birthday.db")
	_, stderr, code := run(t, "import", "--quiet", "--store="+path, list)
	require.Zero(t, code, stderr)
	return path
}

// removeOthers leaves those who were written meanwhile, and counts the others.
func removeOthers(people map[string]string) (others int) {
	for name := range people {
		if strings.HasPrefix(name, "other") {
			delete(people, name)
			others++
		}
	}
	return others
}

func sum(steps [8]int) (n int) {
	for _, step := range steps {
		n += step
	}
	return n
}

// sequence writes one name after the other.
type sequence struct {
	number       int
	acknowledged atomic.Int64
	failed       string
}

func (q *sequence) name(step int) string {
	return "writer" + letters(q.number) + "x" + letters(step)
}

func (q *sequence) write(end *atomic.Bool, address string) {
	c := &client{address: address}
	defer c.close()
	for step := 0; !end.Load(); step++ {
		status, err := c.put(q.name(step), aDate(step))
		if err != nil || status != http.StatusNoContent {
			q.failed = fmt.Sprintf("step %d: %d %v", step, status, err)
			return
		}
		q.acknowledged.Add(1)
	}
}

// restored puts a copy in the place of a store, and reads that.
func restored(t *testing.T, path string) map[string]string {
	t.Helper()
	store := strings.TrimSuffix(path, ".db") + "-restored.db"
	_, stderr, code := run(t, "restore", "--quiet", path, "--store="+store)
	require.Zero(t, code, stderr)
	out, stderr, code := run(t, "export", "--quiet", "--store="+store)
	require.Zero(t, code, stderr)
	return readPeople(t, out)
}

// copyFaults says what is wrong with a copy, before which so many steps of each
// writer were acknowledged.
func copyFaults(before []int, people map[string]string) (faults []string) {
	found := 0
	for i, steps := range before {
		q := &sequence{number: i}
		step := 0
		for ; people[q.name(step)] == aDate(step); step++ {
			found++
		}
		if step < steps {
			faults = append(faults, fmt.Sprintf("writer %d: step %d is missing, %d were acknowledged", i, step, steps))
		}
	}
	if found != len(people) {
		faults = append(faults, fmt.Sprintf("%d people are there, %d of them without a hole before", len(people), found))
	}
	return faults
}
