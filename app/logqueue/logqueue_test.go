package logqueue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"birthday-demo/app/logqueue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reader is what a log is written to. Each write is kept apart.
type reader struct {
	mu     sync.Mutex
	writes []string
	gate   chan struct{}                   // each write takes one; nil lets all through
	fail   func(b []byte) (n int, e error) // nil takes all
}

func (r *reader) Write(b []byte) (int, error) {
	if r.gate != nil {
		<-r.gate
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := len(b), error(nil)
	if r.fail != nil {
		n, err = r.fail(b)
	}
	if n > 0 {
		r.writes = append(r.writes, string(b[:n]))
	}
	return n, err
}

// entry is a line of the log.
type entry struct {
	Level, Msg     string
	N              int
	Dropped, Total uint64
}

// lines returns what was written so far.
func (r *reader) lines(t *testing.T) (entries []entry) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for decoder := json.NewDecoder(strings.NewReader(strings.Join(r.writes, ""))); ; {
		var e entry
		err := decoder.Decode(&e)
		if errors.Is(err, io.EOF) {
			return entries
		}
		require.NoError(t, err)
		entries = append(entries, e)
	}
}

// told returns how many lines the log says were dropped, and how often it says so.
func told(entries []entry) (lines uint64, times int) {
	for _, e := range entries {
		if e.Level == "WARN" {
			lines += e.Dropped
			times++
		}
	}
	return lines, times
}

func asJSON(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }

func newQueue(r io.Writer) (*logqueue.Queue, *slog.Logger) {
	q := logqueue.New(r, asJSON)
	return q, slog.New(q.Handler())
}

// filler makes a line of some 1,000 bytes.
var filler = strings.Repeat("x", 920)

func TestNothingIsLostAndOrderIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		q, log := newQueue(r)
		const n = 500
		for i := range n {
			switch {
			case i%100 == 99:
				log.Info("long", "n", i, "long", strings.Repeat(filler, 10))
			case i%7 == 0:
				log.Error("error", "n", i)
			default:
				log.Info("line", "n", i, "filler", filler)
			}
		}
		q.Close(t.Context())
		for i, e := range r.lines(t) {
			require.Equal(t, i, e.N)
		}
		require.Len(t, r.lines(t), n)
		require.Zero(t, q.Dropped())
		for _, write := range r.writes {
			require.True(t, strings.HasSuffix(write, "\n"), "a write is of whole lines")
			require.True(t, len(write) <= 4096 || strings.Count(write, "\n") == 1, "a write of more than PIPE_BUF is one line")
		}
		require.Less(t, len(r.writes), n, "many lines are one write")
	})
}

func TestALineIsWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		q, log := newQueue(r)
		for i := range 3 {
			log.Info("line")
			synctest.Wait()
			require.Len(t, r.lines(t), i+1)
		}
		q.Close(t.Context())
	})
}

func TestAReaderThatStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{gate: make(chan struct{})}
		q, log := newQueue(r)
		begin := time.Now()
		const ordinary, urgent = 5000, 200
		for i := range ordinary {
			log.Info("line", "n", i, "filler", filler)
		}
		for i := range urgent {
			log.Error("error", "n", i, "filler", filler)
			log.Info("line", "filler", filler)
		}
		require.Zero(t, time.Since(begin))
		dropped := q.Dropped()
		require.InDelta(t, ordinary+urgent-1000, dropped, 100, "1 MiB was queued")

		close(r.gate)
		synctest.Wait()
		lines := r.lines(t)
		number, times := told(lines)
		require.Equal(t, dropped, number)
		require.Equal(t, 1, times)
		require.Equal(t, "WARN", lines[bytes.Count([]byte(r.writes[0]), []byte("\n"))].Level, "it is told after the first write")
		errs := 0
		for _, e := range lines {
			if e.Level == "ERROR" {
				require.Equal(t, errs, e.N)
				errs++
			}
		}
		require.Equal(t, urgent, errs, "errors have room of their own")
		require.Len(t, lines, ordinary+2*urgent+times-int(dropped))

		log.Info("again")
		synctest.Wait()
		require.Equal(t, "again", r.lines(t)[len(lines)].Msg)
		require.Equal(t, dropped, q.Dropped())
		q.Close(t.Context())
	})
}

func TestUrgentLinesAreBoundedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{gate: make(chan struct{})}
		q, log := newQueue(r)
		for range 3000 {
			log.Error("error", "filler", filler)
		}
		require.InDelta(t, 3000-1280, q.Dropped(), 100, "1.25 MiB were queued")
		close(r.gate)
		q.Close(t.Context())
	})
}

// TestASlowReaderIsNotToldAllTheTime lets lines be dropped between all writes.
func TestASlowReaderIsNotToldAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{gate: make(chan struct{})}
		q, log := newQueue(r)
		for range 100 {
			for range 1500 {
				log.Info("line", "filler", filler)
			}
			r.gate <- struct{}{}
			time.Sleep(100 * time.Millisecond)
		}
		_, times := told(r.lines(t))
		require.InDelta(t, 10, times, 1, "once a second")
		close(r.gate)
		q.Close(t.Context())
		number, _ := told(r.lines(t))
		require.Equal(t, q.Dropped(), number, "in the end all are told of")
	})
}

func TestWritesThatFail(t *testing.T) {
	for _, fault := range []error{syscall.EPIPE, syscall.ENOSPC, syscall.EAGAIN, os.ErrClosed} {
		synctest.Test(t, func(t *testing.T) {
			r := &reader{}
			q, log := newQueue(r)
			log.Info("before")
			synctest.Wait()
			r.fail = func([]byte) (int, error) { return 0, fault }
			for i := range 3 {
				log.Info("line")
				synctest.Wait()
				require.EqualValues(t, i+1, q.Dropped())
			}
			r.fail = nil
			log.Info("after")
			synctest.Wait()
			lines := r.lines(t)
			require.Len(t, lines, 3)
			require.Equal(t, "after", lines[1].Msg)
			require.Equal(t, "WARN", lines[2].Level)
			require.EqualValues(t, 3, lines[2].Dropped)
			q.Close(t.Context())
		})
	}
}

// TestAWriteThatEndsWithinALine is a disk that became full and has space again.
func TestAWriteThatEndsWithinALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		q, log := newQueue(r)
		r.fail = func(b []byte) (int, error) { return bytes.IndexByte(b, '\n') + 10, syscall.ENOSPC }
		log.Info("whole")
		log.Info("half")
		log.Info("none")
		synctest.Wait()
		require.EqualValues(t, 2, q.Dropped())
		r.fail = func([]byte) (int, error) { return 0, syscall.ENOSPC }
		log.Info("none")
		synctest.Wait()
		require.EqualValues(t, 3, q.Dropped())
		r.fail = nil
		log.Info("after")
		q.Close(t.Context())
		text := strings.Split(strings.Join(r.writes, ""), "\n")
		require.Len(t, text, 5)
		require.Contains(t, text[0], `"whole"`)
		require.Len(t, text[1], 9, "what is left of the line")
		require.Contains(t, text[2], `"after"`, "the next one begins a line")
		require.Contains(t, text[3], `"dropped":3`)
	})
}

func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{gate: make(chan struct{})}
		q, log := newQueue(r)
		log.Info("line")
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		begin := time.Now()
		q.Close(ctx)
		require.Equal(t, 2*time.Second, time.Since(begin))
		log.Info("too late")
		require.EqualValues(t, 1, q.Dropped())
		close(r.gate)
		q.Close(t.Context())
		require.Equal(t, "line", r.lines(t)[0].Msg, "a reader that comes back in time has it")
	})
}

func TestAttributesAndGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		q := logqueue.New(r, func(w io.Writer) slog.Handler {
			return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}})
		})
		log := slog.New(q.Handler()).With("a", 1).WithGroup("g").With("b", 2)
		require.False(t, log.Enabled(t.Context(), slog.LevelInfo))
		log.Warn("warn", "c", 3)
		log.Error("error", "c", 3)
		_, _ = fmt.Fprintln(q, "try:\n  this")
		q.Close(t.Context())
		require.Equal(t, "level=WARN msg=warn a=1 g.b=2 g.c=3\nlevel=ERROR msg=error a=1 g.b=2 g.c=3\ntry:\n  this\n", strings.Join(r.writes, ""))
	})
}

// BenchmarkLog writes lines to a pipe, as under a supervisor: by the queue and
// without it.
func BenchmarkLog(b *testing.B) {
	pipe := func(b *testing.B) io.Writer {
		r, w, err := os.Pipe()
		require.NoError(b, err)
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(io.Discard, struct{ io.Reader }{r})
		}()
		b.Cleanup(func() {
			_ = w.Close()
			<-read
			_ = r.Close()
		})
		return w
	}
	work := func(b *testing.B, log *slog.Logger) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				log.LogAttrs(context.Background(), slog.LevelInfo, "request", slog.Int("us", 100), slog.String("route", "/hello/{username}"))
			}
		})
	}
	b.Run("direct", func(b *testing.B) { work(b, slog.New(asJSON(pipe(b)))) })
	b.Run("queued", func(b *testing.B) {
		q, log := newQueue(pipe(b))
		work(b, log)
		q.Close(context.Background())
		b.ReportMetric(float64(q.Dropped())/float64(b.N), "dropped/op")
	})
}
