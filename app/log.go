package main

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// newLog makes the log of the program on w. Nothing that it writes holds a username
// or a birth date.
func newLog(w io.Writer, s *settings) *slog.Logger { return slog.New(logFormat(w, s)(w)) }

// logFormat returns how the handlers of a log are made that ends at w: text for
// people on a terminal, JSON for everything else, unless it is set.
func logFormat(w io.Writer, s *settings) func(io.Writer) slog.Handler {
	level, err := s.level()
	if err != nil {
		level = slog.LevelInfo // load has told
	}
	options := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "text" || s.LogFormat == "auto" && isTerminal(w) {
		return func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, options) }
	}
	return func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, options) }
}

// isTerminal says whether a person reads what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
