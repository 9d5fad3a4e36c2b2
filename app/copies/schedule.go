package copies

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"birthday-demo/app/store/bolt"
	"birthday-demo/app/tempfile"
)

const (
	// endTimeout is what a copy at work gets to end and to leave nothing, at a stop.
	endTimeout = 2 * time.Second

	// stuckAfter is how long the folder may take for anything until that is said.
	stuckAfter = 5 * time.Minute
)

// Schedule makes copies of a store, and keeps the newest.
type Schedule struct {
	Store  *bolt.Store
	Path   string // of the store
	Folder string // for the copies; it is made when it is missing
	Every  time.Duration
	Keep   int
	Now    func() time.Time // the date, which is in the names
	Log    *slog.Logger

	newest  prometheus.Gauge
	removed *prometheus.CounterVec
	shown   time.Time // what newest tells
	last    time.Time // when this process made its last copy, by the monotonic clock
	unknown int       // most files that were said to be none of ours
}

// Register adds the metrics that tell whether the copies are made.
func (s *Schedule) Register(registry prometheus.Registerer) {
	s.newest = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "birthday_backup_timestamp_seconds",
		Help: "When the newest scheduled copy was made, in seconds since 1970; 0 is never.",
	})
	s.removed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "birthday_backups_removed_total",
		Help: "Scheduled copies that were removed, by reason: age, or space for the next one.",
	}, []string{"reason"})
	for _, reason := range []string{forAge, forSpace} {
		s.removed.WithLabelValues(reason) // from the start, for alerts
	}
	registry.MustRegister(s.newest, s.removed)
}

// Why copies are removed.
const (
	forAge   = "age"
	forSpace = "space"
)

// Run makes a copy whenever the newest one is old enough, until ctx ends. A copy that
// cannot be made is logged and tried again after a tenth of the time. A copy at work
// ends with ctx. Where the folder hangs, Run leaves it to itself and returns.
func (s *Schedule) Run(ctx context.Context) {
	for ctx.Err() == nil {
		done := make(chan time.Duration, 1)
		go func() { done <- s.tend(ctx) }()
		wait, ended := s.await(ctx, done)
		if !ended {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// await waits for what is done in the folder, and says when that takes long.
func (s *Schedule) await(ctx context.Context, done <-chan time.Duration) (wait time.Duration, ended bool) {
	begin := time.Now()
	tick := time.NewTicker(stuckAfter)
	defer tick.Stop()
	for {
		select {
		case wait := <-done:
			return wait, true
		case <-tick.C:
			s.Log.Error("scheduled backup: the folder does not answer, no copies are made", "folder", s.Folder, "for", time.Since(begin).Round(time.Second).String())
		case <-ctx.Done():
			select {
			case wait := <-done:
				return wait, true
			case <-time.After(endTimeout):
				s.Log.Warn("a scheduled backup was left at work: its folder does not answer", "folder", s.Folder)
				return 0, false
			}
		}
	}
}

// tend makes a copy if it is time for one, and returns when to look again.
func (s *Schedule) tend(ctx context.Context) time.Duration {
	wait, err := s.due()
	if err == nil && wait <= 0 {
		wait, err = s.Every, s.copy(ctx)
	}
	if err == nil {
		return wait
	}
	wait = s.Every / 10
	if ctx.Err() == nil {
		s.Log.Error("scheduled backup failed", "folder", s.Folder, "again_in", wait.String(), "error", err)
	}
	return wait
}

// due returns how long it is until the next copy. What this process has made counts
// by a clock that nobody can set; at its start, the names of the copies count.
func (s *Schedule) due() (time.Duration, error) {
	if s.last.IsZero() {
		_ = os.Mkdir(s.Folder, 0o700) // where that fails, the list does too
		tempfile.Sweep(s.Folder, s.Now(), func(path string, err error) {
			s.Log.Info("removing what a crash has left", "file", path, "error", err)
		})
	}
	found, err := s.list()
	if err != nil {
		return 0, err
	}
	newest := s.show(found)
	if !s.last.IsZero() {
		return s.Every - time.Since(s.last), nil
	}
	return newest.Add(s.Every).Sub(s.Now()), nil
}

// show has the metric tell the newest copy that was seen, and returns the newest of
// these: after a clock was set back, those are not the same.
func (s *Schedule) show(found []Copy) (newest time.Time) {
	if len(found) > 0 {
		newest = found[len(found)-1].Made
	}
	if newest.After(s.shown) {
		s.shown = newest
		s.newest.Set(float64(newest.Unix())) //nolint:forbidigo // Prometheus wants the wall clock's
	}
	return newest
}

// list returns the copies, the oldest first.
func (s *Schedule) list() ([]Copy, error) {
	found, unknown, err := List(s.Folder, s.Path, s.Store.ID(), s.Now())
	if err != nil {
		return nil, err
	}
	if unknown > s.unknown {
		s.Log.Warn("files in the folder of the copies have the name of one, and are none of this store that can be recognised: they are left alone", "folder", s.Folder, "files", unknown)
	}
	s.unknown = max(s.unknown, unknown)
	return found, nil
}

// copy makes one copy, and removes those that are too many. When the disk has no
// space for it, the oldest make room.
func (s *Schedule) copy(ctx context.Context) error {
	err := s.write(ctx)
	if noSpace(err) {
		removed, roomErr := s.makeRoom()
		if removed == 0 {
			return errors.Join(fmt.Errorf("%w; no copy can make room for it: make space there, or keep fewer", err), roomErr)
		}
		err = s.write(ctx)
	}
	if err != nil {
		return err
	}
	s.last = time.Now()
	found, err := s.list()
	if err != nil {
		return err
	}
	s.show(found)
	_, err = s.remove(found[:max(0, len(found)-s.Keep)], forAge)
	return err
}

// write makes one copy, verified and synced.
func (s *Schedule) write(ctx context.Context) error {
	file, err := tempfile.Create(s.Folder)
	if err != nil {
		return fmt.Errorf("make a copy: %w", err)
	}
	defer discard(file)
	report, path, err := s.fill(ctx, file)
	if err != nil {
		return fmt.Errorf("make a copy: %w", tempfile.Renamed(err, file.Name(), "the copy"))
	}
	s.Log.Info("made a scheduled backup", "file", path, "bytes", report.Bytes, "people", report.People)
	return nil
}

func (s *Schedule) fill(ctx context.Context, file *tempfile.File) (report bolt.Report, path string, err error) {
	made := s.Now()
	size, err := s.Store.Size()
	if err == nil {
		err = file.Reserve(size) // a full disk is found before anything is copied
	}
	if err != nil {
		return report, "", err
	}
	written, err := s.Store.Backup(ctx, file)
	if err == nil {
		err = file.Truncate(written)
	}
	if err != nil {
		return report, "", err
	}
	synced := make(chan error, 1)
	go func() { synced <- file.Sync() }() // the disk writes while we read
	report, err = bolt.VerifyFile(file.File)
	if err = errors.Join(err, <-synced, ctx.Err()); err != nil {
		return report, "", err
	}
	for ctx.Err() == nil { // another service with such a store may have made one in the same second
		path = filepath.Join(s.Folder, name(s.Path, made))
		if err = file.CommitNew(path); !errors.Is(err, fs.ErrExist) {
			return report, path, err
		}
		made = made.Add(time.Second)
	}
	return report, "", ctx.Err()
}

// discard does not wait for a disk that hangs.
func discard(file *tempfile.File) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = file.Discard() // a sweep finds it
	}()
	select {
	case <-done:
	case <-time.After(endTimeout):
	}
}

// noSpace reports whether a copy failed for want of space.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// makeRoom removes the oldest copies, so many that with the next one there are as many
// as are to be kept, and returns how many those were. One that is whole always stays.
func (s *Schedule) makeRoom() (removed int, err error) {
	found, err := s.list()
	if err != nil {
		return 0, err
	}
	most := len(found) - max(1, s.Keep-1)
	for good := len(found) - 1; good >= 0 && most > 0; good-- {
		if _, err := bolt.Verify(found[good].Path); err != nil {
			s.Log.Error("a copy is not whole", "file", found[good].Path, "error", err)
			continue
		}
		removed, err = s.remove(found[:min(most, good)], forSpace)
		s.Log.Warn("the disk of the copies is full: the oldest made room for the next one", "folder", s.Folder, "removed", removed, "error", err)
		return removed, err
	}
	return 0, nil
}

// remove removes copies that are ours still, and returns how many those were.
func (s *Schedule) remove(old []Copy, reason string) (removed int, err error) {
	for _, c := range old {
		if !isCopy(c.Path, s.Path, s.Store.ID()) {
			continue
		}
		if err := os.Remove(c.Path); err != nil {
			return removed, fmt.Errorf("remove an old copy: %w", err)
		}
		removed++
		s.removed.WithLabelValues(reason).Inc()
	}
	return removed, nil
}
