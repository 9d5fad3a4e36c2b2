package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"birthday-demo/app/store/bolt"
)

// schedule makes copies of the store while the service runs, and keeps the
// newest.
type schedule struct {
	store  *bolt.Store
	folder string
	every  time.Duration
	keep   int
	now    func() time.Time
	log    *slog.Logger
	last   prometheus.Gauge // when the newest copy was made, in seconds since 1970
}

// copyName is the name of a copy, in UTC: names sort as times do.
const copyName = "birthday-20060102T150405Z.db"

// register adds the metric that tells whether the copies are made.
func (c *schedule) register(registry prometheus.Registerer) {
	c.last = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "birthday_backup_timestamp_seconds",
		Help: "When the newest scheduled copy was made, in seconds since 1970; 0 is never.",
	})
	registry.MustRegister(c.last)
}

// run makes a copy when the newest one is old enough, until ctx ends. A copy
// that cannot be made is logged and tried again after a tenth of the time.
func (c *schedule) run(ctx context.Context) {
	for {
		wait := c.every / 10
		newest, err := c.newest()
		if err == nil {
			c.last.Set(unixOrZero(newest))
			if wait = newest.Add(c.every).Sub(c.now()); wait <= 0 {
				wait = c.every / 10
				if err = c.copy(); err == nil {
					continue
				}
			}
		}
		if err != nil {
			c.log.Error("scheduled backup failed", "folder", c.folder, "again_in", wait.String(), "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func unixOrZero(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

// copies lists the scheduled copies, the oldest first. Those of the future, from
// when a clock was wrong, are left out.
func (c *schedule) copies() ([]string, error) {
	names, err := filepath.Glob(filepath.Join(c.folder, "birthday-*T*Z.db"))
	if err != nil {
		return nil, fmt.Errorf("list the copies: %w", err)
	}
	slices.Sort(names)
	return slices.DeleteFunc(names, func(name string) bool {
		made, err := time.Parse(copyName, filepath.Base(name))
		return err != nil || made.After(c.now())
	}), nil
}

// newest says when the newest copy was made; the zero time is never.
func (c *schedule) newest() (time.Time, error) {
	names, err := c.copies()
	if err != nil || len(names) == 0 {
		return time.Time{}, err
	}
	return time.Parse(copyName, filepath.Base(names[len(names)-1]))
}

// staleAfter is how old a temporary file is that nobody writes any more.
const staleAfter = time.Hour

// sweep removes the temporary files that a crash left in a folder: they hold
// people.
func sweep(folder string, now time.Time, log *slog.Logger) {
	for _, pattern := range []string{".birthday-*.new", ".birthday-*.copy"} {
		names, _ := filepath.Glob(filepath.Join(folder, pattern)) // the pattern is right
		for _, name := range names {
			info, err := os.Lstat(name)
			if err != nil || !info.Mode().IsRegular() || now.Sub(info.ModTime()) < staleAfter {
				continue
			}
			log.Info("removing what a crash has left", "file", name, "error", os.Remove(name))
		}
	}
}

// copy makes one copy, verified, and removes those that are too many.
func (c *schedule) copy() error {
	begin := c.now()
	name, report, err := makeCopy(context.Background(), c.folder, false, verifyFile, func(out io.Writer) error {
		_, err := c.store.Backup(out)
		return err
	})
	if err != nil {
		return err
	}
	path := filepath.Join(c.folder, begin.UTC().Format(copyName))
	if err := rename(name, path); err != nil {
		return fmt.Errorf("name the copy %s: %w", path, err)
	}
	c.log.Info("made a scheduled backup", "file", path, "bytes", report.Bytes, "people", report.People)
	names, err := c.copies()
	if err != nil {
		return err
	}
	for _, old := range names[:max(0, len(names)-c.keep)] {
		if err := os.Remove(old); err != nil {
			return fmt.Errorf("remove an old copy: %w", err)
		}
	}
	return nil
}
