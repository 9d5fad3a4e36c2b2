package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"birthday-demo/app/admin"
	"birthday-demo/app/birthday"
	"birthday-demo/app/people"
)

func importCommand(w world, s *settings) *cobra.Command {
	i := importer{source: source{settings: s}}
	cmd := &cobra.Command{
		Use:   "import [FILE|-]",
		Short: "Take people from a file or the standard input",
		Long: "Reads people as JSON lines, as CSV, or from the original service's file, and\n" +
			"validates them by the rules of the API. The header of CSV names username and\n" +
			"dateOfBirth, in any order and case, separated by comma, semicolon or tab; further\n" +
			"columns are ignored, with a warning; a record is one line. Doing it again changes\n" +
			"nothing; the last line of a name wins. Good lines are kept when others are\n" +
			"refused: then the exit code is 3. A refusal names line and code, never the value.\n" +
			"A dry run goes by the settings of the command; with --admin it also sees whether\n" +
			"the service is there and would let it in.",
		Example: "  app import people.csv\n  app export --store old.db | app import --admin http://localhost:8081",
		Args:    atMostOneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.load(w); err != nil {
				return err
			}
			return i.run(cmd.Context(), w, fileArgument(args))
		},
	}
	i.source.define(cmd)
	i.talk.define(cmd)
	s.share(cmd, "time-zone", "ascii-usernames")
	cmd.Flags().StringVar(&i.format, "format", "", "jsonl, csv or original (default by the file's extension, then its first line)")
	cmd.Flags().BoolVar(&i.dryRun, "dry-run", false, "only say what would be taken and refused")
	return cmd
}

// importer is one run of the command.
type importer struct {
	source
	talk
	format string
	dryRun bool
}

// importReport says what an import did.
type importReport struct {
	Taken    int              `json:"taken"` // lines, of which the last of a name counts
	Refused  int              `json:"refused"`
	Refusals []people.Refusal `json:"refusals"` // the first of them
	Warnings []people.Warning `json:"warnings,omitempty"`
}

const maxRefusals = 20 // that a report names

// errPartial says that some lines were refused, and not all.
var errPartial = errors.New("some lines were refused")

func (i *importer) run(ctx context.Context, w world, path string) error {
	if i.dryRun && i.admin != "" {
		if err := i.knock(ctx); err != nil {
			return fmt.Errorf("import %s: %w", path, err)
		}
	}
	input, size, err := openInput(w, path)
	if err != nil {
		return err
	}
	defer func() { _ = input.Close() }()
	bar := newProgress(w, i.quiet, "importing", size)
	body := bufio.NewReaderSize(bar.reader(input), 1<<20)
	format, err := inputFormat(i.format, path, body)
	if err != nil {
		return usageError{err}
	}
	var report importReport
	switch {
	case i.admin != "" && !i.dryRun:
		report, err = i.send(ctx, body, format)
	default:
		report, err = i.take(ctx, w, body, format)
	}
	bar.done()
	if err != nil && i.admin != "" && !i.dryRun {
		return fmt.Errorf("import %s: some of it may be kept: %w", path, err)
	}
	if err := errors.Join(err, i.tell(w, report)); err != nil {
		return fmt.Errorf("import %s: %w", path, err)
	}
	switch {
	case report.Refused > 0 && i.dryRun:
		return fmt.Errorf("import %s: %w", path, errPartial)
	case report.Refused > 0:
		return fmt.Errorf("import %s: %w; the others are kept", path, errPartial)
	}
	return nil
}

// openInput opens what is imported, and gives its size in bytes, -1 when that
// cannot be known.
func openInput(w world, path string) (io.ReadCloser, int64, error) {
	if path == "-" {
		return io.NopCloser(w.stdin), -1, nil
	}
	file, err := os.Open(path) //nolint:gosec // the operator names the path
	if err != nil {
		return nil, 0, fmt.Errorf("import: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("import: %w", errors.Join(err, file.Close()))
	}
	return file, info.Size(), nil
}

// inputFormat is the one that is named, or the one that the file looks like.
func inputFormat(name, path string, body *bufio.Reader) (people.Format, error) {
	if name != "" {
		return people.ParseFormat(name)
	}
	head, err := body.Peek(64 << 10)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return people.Detect(path, head)
}

// knock sees whether the service is there and gives data to this command, as it
// must for an import.
func (i *importer) knock(ctx context.Context) error {
	answer, err := i.ask(ctx, "HEAD", "/export", nil)
	if err != nil {
		return err
	}
	return answer.Close()
}

// take imports into the store itself.
func (i *importer) take(ctx context.Context, w world, body io.Reader, format people.Format) (report importReport, err error) {
	rules := rulesOf(w, i.settings)
	if i.dryRun {
		return importPeople(ctx, nil, people.Read(body, format, rules), importPlan{})
	}
	store, err := openForCommand(ctx, i.settings)
	if err != nil {
		return report, orAsk(err)
	}
	report, err = importPeople(ctx, store, people.Read(body, format, rules), commandImport(i.settings))
	return report, errors.Join(err, store.Close())
}

// send lets a running service import.
func (i *importer) send(ctx context.Context, body io.Reader, format people.Format) (report importReport, err error) {
	answer, err := i.ask(ctx, "POST", "/import?format="+url.QueryEscape(string(format)), body)
	if err != nil {
		return report, err
	}
	defer func() { _ = answer.Close() }()
	if err := json.NewDecoder(answer).Decode(&report); err != nil {
		return report, fmt.Errorf("read the service's report: %w", err)
	}
	return report, nil
}

// tell prints the report.
func (i *importer) tell(w world, r importReport) error {
	verb := "taken"
	if i.dryRun {
		verb = "would be taken"
	}
	if err := i.say(w, r, "%s: %d, refused: %d", verb, r.Taken, r.Refused); err != nil || i.quiet {
		return err
	}
	for _, warning := range r.Warnings {
		_, _ = fmt.Fprintln(w.stderr, "warning:", warning)
	}
	for _, refusal := range r.Refusals {
		_, _ = fmt.Fprintln(w.stderr, refusal)
	}
	if more := r.Refused - len(r.Refusals); more > 0 {
		_, _ = fmt.Fprintf(w.stderr, "and %d more\n", more)
	}
	return nil
}

// rulesOf gives the rules of imports on the day that it is.
func rulesOf(w world, s *settings) people.Rules {
	zone, err := birthday.NewZones().Parse(s.TimeZone)
	if err != nil {
		panic(err) // load has checked it
	}
	return people.Rules{Today: birthday.DateOf(w.now().In(zone)), ASCIIUsernames: s.ASCIIUsernames}
}

// takeIn imports a body, for the internal port.
func takeIn(ctx context.Context, s store, body io.Reader, format string, rules people.Rules, plan importPlan) (any, error) {
	input := bufio.NewReader(body)
	f := people.JSONL
	if format != "" {
		var err error
		if f, err = people.ParseFormat(format); err != nil {
			return nil, fmt.Errorf("%w: %w", admin.ErrInput, err)
		}
	}
	report, err := importPeople(ctx, s, people.Read(input, f, rules), plan)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return report, nil
}
