package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"birthday-demo/app/admin"
	"birthday-demo/app/birthday"
	"birthday-demo/app/people"
)

func exportCommand(w world, s *settings) *cobra.Command {
	e := export{source: source{settings: s}}
	cmd := &cobra.Command{
		Use:   "export [FILE|-]",
		Short: "Write everyone to a file or the standard output",
		Long: "Writes everyone in the order of names, each person once, while others write on.\n" +
			"The formats are jsonl (one JSON object a line), csv, and original (the file of\n" +
			"the original service). A row of a database whose birth date is no date is left\n" +
			"out: it is told by its place, the others are written, and the exit code is 3.",
		Example: "  app export people.jsonl\n  app export --admin http://localhost:8081 --format csv > people.csv",
		Args:    atMostOneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.load(w); err != nil {
				return err
			}
			return e.run(cmd.Context(), w, fileArgument(args))
		},
	}
	e.source.define(cmd)
	e.talk.define(cmd)
	cmd.Flags().StringVar(&e.format, "format", "", "jsonl, csv or original (default by the file's extension, else jsonl)")
	return cmd
}

// export is one run of the command.
type export struct {
	source
	talk
	format string
}

// exported says what an export did.
type exported struct {
	Bytes int64 `json:"bytes"`
}

func (e *export) run(ctx context.Context, w world, path string) error {
	if err := errors.Join(e.requireFile(path), requireTarget(path, e.settings.Store)); err != nil {
		return err
	}
	format, err := e.chosenFormat(path)
	if err != nil {
		return err
	}
	bar := newProgress(w, e.quiet, "exporting", -1)
	var size counter
	var leftOut *birthday.LeftOutError
	err = writeFile(w, path, func(out io.Writer) error {
		out = io.MultiWriter(bar.writer(out), &size)
		if e.admin != "" {
			leftOut, err = e.exportOfService(ctx, out, format)
			return err
		}
		store, err := openExisting(ctx, e.settings)
		if err != nil {
			return orAsk(err)
		}
		_, err = people.Write(out, format, everyoneIn(ctx, store))
		if errors.As(err, &leftOut) {
			err = nil // what is written is whole but for them
		}
		return errors.Join(err, store.Close())
	})
	bar.done()
	if err == nil && path != "-" {
		err = e.say(w, exported{int64(size)}, "exported to %s: %d bytes", path, size)
	}
	if err == nil && leftOut != nil {
		err = fmt.Errorf("export to %s: %w", path, leftOut)
	}
	return err
}

// exportOfService writes what a running service exports. How many people that left
// out follows after the answer.
func (e *export) exportOfService(ctx context.Context, out io.Writer, format people.Format) (leftOut *birthday.LeftOutError, err error) {
	answer, err := e.request(ctx, "GET", "/export?format="+url.QueryEscape(string(format)), nil)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(out, answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return nil, err
	}
	if n, err := strconv.Atoi(answer.Trailer.Get(admin.LeftOut)); err == nil && n > 0 {
		leftOut = &birthday.LeftOutError{Count: n}
	}
	return leftOut, nil
}

// counter counts the bytes that are written to it.
type counter int64

// Write counts.
func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// chosenFormat is the flag's, or the one that the extension names.
func (e *export) chosenFormat(path string) (people.Format, error) {
	if e.format == "" {
		return people.Detect(path, nil)
	}
	format, err := people.ParseFormat(e.format)
	if err != nil {
		return "", usageError{err}
	}
	return format, nil
}

// everyone streams all people of a store to a writer, for the internal port. Who is
// left out is told by the log, too: a client may not look for it.
func everyone(ctx context.Context, s birthday.Store, format string, log *slog.Logger) (mediaType string, write func(io.Writer) (leftOut int, err error), err error) {
	f := people.JSONL
	if format != "" {
		if f, err = people.ParseFormat(format); err != nil {
			return "", nil, fmt.Errorf("%w: %w", admin.ErrInput, err)
		}
	}
	return f.MediaType(), func(w io.Writer) (int, error) {
		_, err := people.Write(w, f, people.All(ctx, s))
		if leftOut, ok := errors.AsType[*birthday.LeftOutError](err); ok {
			log.Error("an export is not whole", "error", leftOut)
			return leftOut.Count, nil
		}
		if err != nil {
			return 0, fmt.Errorf("export: %w", err)
		}
		return 0, nil
	}, nil
}
