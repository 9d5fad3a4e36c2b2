package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/getsentry/sentry-go"
)

// flushTimeout is what reports on their way to Sentry get when the program ends, and
// lines on their way to the log beside them.
const flushTimeout = 2 * time.Second

// reportErrors makes each error in the log an event at Sentry too, if there is a
// DSN, and gives how to wait for those that are under way. What is reported is what
// the log says, which holds no username and no birth date; nothing of the request.
func reportErrors(log *slog.Logger, s *settings, w world, v version) (reporting *slog.Logger, flush func(), err error) {
	if s.SentryDSN == "" {
		return log, func() {}, nil
	}
	environment, _ := w.env("SENTRY_ENVIRONMENT")
	release, found := w.env("SENTRY_RELEASE")
	if !found {
		release = v.Version
	}
	client, err := sentry.NewClient(sentry.ClientOptions{
		Dsn:          s.SentryDSN,
		Environment:  environment,
		Release:      release,
		Integrations: func([]sentry.Integration) []sentry.Integration { return nil }, // they add what the machine is
		BeforeSend:   scrub,
	})
	if err != nil {
		return log, func() {}, usageError{fmt.Errorf("sentry-dsn (from %s): this is no DSN; Sentry shows it in the project's settings, under Client Keys", s.source["sentry-dsn"])}
	}
	return slog.New(reporter{Handler: log.Handler(), client: client}), func() {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			client.Flush(flushTimeout)
			client.Close() // waits for the answer to the report that is under way, for up to half a minute
		}()
		select {
		case <-ended:
		case <-time.After(flushTimeout):
		}
	}, nil
}

// scrub drops what may hold personal data, whoever put it there.
func scrub(event *sentry.Event, _ *sentry.EventHint) *sentry.Event {
	event.Request = nil
	event.User = sentry.User{}
	event.Breadcrumbs = nil
	event.Attachments = nil
	event.ServerName = ""
	return event
}

// reporter is a handler of the log that hands errors on to Sentry.
type reporter struct {
	slog.Handler
	client *sentry.Client
	attrs  []slog.Attr // of all its records
}

// Handle writes the record, and reports it when it is an error.
func (r reporter) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelError {
		r.client.CaptureEvent(eventOf(record, r.attrs), nil, nil)
	}
	return r.Handler.Handle(ctx, record)
}

// WithAttrs gives a reporter whose records have attributes in common.
func (r reporter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return reporter{r.Handler.WithAttrs(attrs), r.client, slices.Concat(r.attrs, attrs)}
}

// WithGroup gives a reporter whose log groups what comes. A report has no groups.
func (r reporter) WithGroup(name string) slog.Handler {
	return reporter{r.Handler.WithGroup(name), r.client, r.attrs}
}

// eventOf makes an event of a record and what its log has in common. Its message and
// its route tell Sentry what belongs together; the request's id leads back to the log.
func eventOf(record slog.Record, common []slog.Attr) *sentry.Event {
	event := sentry.NewEvent()
	event.Level = sentry.LevelError
	event.Timestamp = record.Time
	event.Message = record.Message
	said := sentry.Context{}
	say := func(a slog.Attr) bool {
		switch a.Key {
		case "route", "method", "status", "request_id":
			event.Tags[a.Key] = a.Value.String()
		case "client": // an address
		default:
			said[a.Key] = a.Value.String()
		}
		return true
	}
	for _, a := range common {
		say(a)
	}
	record.Attrs(say)
	event.Contexts["log"] = said
	event.Fingerprint = []string{record.Message, event.Tags["route"], event.Tags["method"], event.Tags["status"]}
	return event
}
