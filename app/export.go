package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

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
			"the original service).",
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
	err = writeFile(w, path, func(out io.Writer) error {
		out = io.MultiWriter(bar.writer(out), &size)
		if e.admin != "" {
			answer, err := e.ask(ctx, "GET", "/export?format="+url.QueryEscape(string(format)), nil)
			if err != nil {
				return err
			}
			_, err = io.Copy(out, answer)
			return errors.Join(err, answer.Close())
		}
		store, err := openExisting(ctx, e.settings)
		if err != nil {
			return orAsk(err)
		}
		_, err = people.Write(out, format, everyoneIn(ctx, store))
		return errors.Join(err, store.Close())
	})
	bar.done()
	if err != nil || path == "-" {
		return err
	}
	return e.say(w, exported{int64(size)}, "exported to %s: %d bytes", path, size)
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

// everyone streams all people of a store to a writer, for the internal port.
func everyone(ctx context.Context, s birthday.Store, format string) (mediaType string, write func(io.Writer) error, err error) {
	f := people.JSONL
	if format != "" {
		if f, err = people.ParseFormat(format); err != nil {
			return "", nil, fmt.Errorf("%w: %w", admin.ErrInput, err)
		}
	}
	return f.MediaType(), func(w io.Writer) error {
		if _, err := people.Write(w, f, people.All(ctx, s)); err != nil {
			return fmt.Errorf("export: %w", err)
		}
		return nil
	}, nil
}
