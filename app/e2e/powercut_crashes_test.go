//go:build linux

package e2e_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/testkit"
)

// TestPowerCutsAfterCrashes is TestPowerCuts for a program that is started again and
// again on what it left: a sync failed, or it was killed at one, or at any moment.
// It then reads from the page cache what the disk may not hold.
func TestPowerCutsAfterCrashes(t *testing.T) {
	testkit.Needs(t, "strace", "strace")
	images, seed := size(1_000, 20_000), seed(t)
	var recordings []powercutRecording
	starts, kills, failed, syncs, writes, unknown := 0, 0, 0, 0, 0, 0
	for n := range size(3, 20) {
		r := powercutCrashes(t, seed, n)
		recordings = append(recordings, r)
		starts, kills, failed = starts+len(r.starts), kills+r.kills, failed+r.failed()
		syncs, writes, unknown = syncs+len(r.syncs), writes+r.writes, unknown+r.unknown
	}
	start := time.Now()
	sum := powercutJudge(t, recordings, seed, images, images)
	require.NoError(t, sum.first, "image %d of SEED=%d", sum.at, seed)
	require.Positive(t, sum.nameless, "some cuts come before the store has its name")
	require.Positive(t, sum.acknowledged)
	took := time.Since(start)

	var planted, caught []string
	for _, fault := range []struct {
		name     string
		onlySync bool
	}{
		{"a start that does not write the newest meta page again", false},
		{"a start that only syncs it again", true},
	} {
		var faulty []powercutRecording
		for _, r := range recordings {
			faulty = append(faulty, r.withoutMetaAgain(fault.onlySync))
		}
		found := powercutJudge(t, faulty, seed, 10*images, 1)
		require.Error(t, found.first, "%s, and %d images do not show it", fault.name, 10*images)
		t.Logf("%s: caught by image %d: %v", fault.name, found.at+1, found.first)
		planted = append(planted, fault.name)
		caught = append(caught, strconv.Itoa(found.at+1))
	}
	proof{Proof: "powercut-crashes", Figures: map[string]any{
		"images": images, "bad": 0, "seconds": took.Seconds(),
		"starts": starts, "kills": kills, "recorded_syncs": syncs, "failed_syncs": failed,
		"recorded_writes": writes, "writes_of_unknown_outcome": unknown,
		"images_before_the_store_is_there": sum.nameless, "acknowledged_writes_looked_for": sum.acknowledged,
		"sectors_lost": sum.lost, "planted_caught_by_image": strings.Join(caught, ", "),
	}, Planted: strings.Join(planted, "; "), Caught: true}.keep(t)
}

// powercutCrashes records starts of the program on one folder. In each a sync fails, or
// the program is killed: at a sync, at any moment, or when its clients have written.
func powercutCrashes(t *testing.T, seed uint64, number int) powercutRecording {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, uint64(number)))
	ends := []string{"error=EIO", "signal=KILL"}
	if number%2 == 1 {
		slices.Reverse(ends)
	}
	var faults []string // when: of each thread
	for _, end := range ends {
		for _, when := range []string{"4", "3", "2", "1"} {
			faults = append(faults, "fsync:"+end+":when="+when)
		}
		for _, when := range []string{"1", "2", "3", "4", "2"} { // the second is of a meta page, if the store is there
			faults = append(faults, "fdatasync:"+end+":when="+when)
		}
	}
	if number > 1 {
		random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	}
	l := powercutNameless(t, seed+uint64(number))
	for _, fault := range faults {
		l.run(t, fault, func(s *service, write func(int)) {
			kill := func() { _ = syscall.Kill(s.cmd.Process.Pid, syscall.SIGKILL) } // not its tracer; it may have ended
			if strings.HasPrefix(fault, "fsync") {
				// Most of these come before it serves, so this one will not.
				defer time.AfterFunc(time.Duration(random.IntN(50))*time.Millisecond, kill).Stop()
			}
			write(20)
			kill()
			s.wait(t)
		})
	}
	l.run(t, "", func(s *service, write func(int)) {
		write(10)
		s.stop(t)
	})
	return l.recording(t)
}

// powercutNameless records a start that makes a store and cannot sync its folder. It
// takes some tries: the program changes threads, and strace counts the calls of each. On
// one thread the third call would be it.
func powercutNameless(t *testing.T, seed uint64) *powercutRecorder {
	t.Helper()
	for try := range 60 {
		l := newPowercutRecorder(t, seed)
		l.run(t, "fsync:error=EIO:when="+[]string{"3", "3", "2"}[try%3], func(s *service, _ func(int)) { s.kill() })
		if slices.ContainsFunc(l.parser.r.syncs, func(s powercutSync) bool { return s.folder && s.failed }) {
			return l
		}
	}
	require.Fail(t, "no sync of the folder failed")
	return nil
}

// withoutMetaAgain leaves out what each start writes to a store that was there, before
// anything else, and its sync unless onlySync is set.
func (r powercutRecording) withoutMetaAgain(onlySync bool) powercutRecording {
	r.changes, r.syncs = slices.Clone(r.changes), slices.Clone(r.syncs)
	for n, start := range r.starts {
		end := len(r.times)
		if n+1 < len(r.starts) {
			end = r.starts[n+1]
		}
		i := slices.IndexFunc(r.changes, func(c powercutChange) bool { return c.begin >= start && c.begin < end && c.what == powercutWrite })
		if i < 0 || r.changes[i].at+int64(len(r.changes[i].data)) > 2*4096 { // the first is of a new store
			continue
		}
		again := r.changes[i]
		r.changes = slices.Delete(r.changes, i, i+1)
		i = slices.IndexFunc(r.syncs, func(s powercutSync) bool {
			return s.begin > again.end && s.begin < end && !s.folder && s.file == again.file
		})
		if i >= 0 && !onlySync {
			r.syncs = slices.Delete(r.syncs, i, i+1)
		}
	}
	return r
}

// failed counts the syncs that failed.
func (r powercutRecording) failed() (n int) {
	for _, s := range r.syncs {
		if s.failed {
			n++
		}
	}
	return n
}
