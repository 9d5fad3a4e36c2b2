package logqueue

import (
	"context"
	"log/slog"
)

// handler hands records to one of two handlers that write to the same queue.
type handler struct{ ordinary, urgent slog.Handler }

// Enabled reports whether records of a level are wanted.
func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.ordinary.Enabled(ctx, level)
}

// Handle queues the line of a record.
func (h handler) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelError {
		return h.urgent.Handle(ctx, record)
	}
	return h.ordinary.Handle(ctx, record)
}

// WithAttrs returns a handler whose records have attributes in common.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.ordinary.WithAttrs(attrs), h.urgent.WithAttrs(attrs)}
}

// WithGroup returns a handler that groups what comes.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.ordinary.WithGroup(name), h.urgent.WithGroup(name)}
}
