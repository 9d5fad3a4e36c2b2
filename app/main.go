// Command app is the birthday service: an HTTP API that keeps birth dates and
// greets people with the days left. Without arguments it serves; see --help.
//
// This package puts the parts together, one file for each command. It alone
// knows the settings, the signals and the exit codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/postgres"
)

func main() {
	time.Local = time.UTC // what it writes depends on no machine's zone
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	listen, err := inheritSockets()
	if err == nil {
		err = run(ctx, world{
			args:              os.Args,
			environ:           os.Environ(),
			stdin:             os.Stdin,
			stdout:            os.Stdout,
			stderr:            os.Stderr,
			now:               time.Now,
			listen:            listen,
			notify:            notifySystemd,
			ignoreBrokenPipes: func() { signal.Ignore(syscall.SIGPIPE) },
		})
	}
	if told := (logged{}); err != nil && !errors.As(err, &told) {
		fmt.Fprintln(os.Stderr, "error:", err)
	}
	os.Exit(exitCode(err))
}

// world is everything outside of the program that it touches by itself.
type world struct {
	args              []string // the first is the program's name
	environ           []string // like os.Environ
	stdin             io.Reader
	stdout, stderr    io.Writer
	now               func() time.Time
	listen            func(port, address string) (net.Listener, error) // port is "public" or "internal"
	notify            func(state string)                               // tells a supervisor, as sd_notify(3) does
	ignoreBrokenPipes func()                                           // a write whose reader is gone then fails, and does not end the process
}

// env looks up a variable.
func (w world) env(name string) (string, bool) {
	for _, entry := range w.environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// run does what the arguments say.
func run(ctx context.Context, w world) error {
	s := newSettings()
	root := &cobra.Command{
		Use:   filepath.Base(w.args[0]),
		Short: "Keep birth dates, and greet people with the days left",
		Long: "A birthday API: PUT /hello/<username> keeps a birth date, GET greets with the\n" +
			"days left. Without a command it serves. Each setting is a flag, a BIRTHDAY_*\n" +
			"variable and, for secrets, a BIRTHDAY_*_FILE variable; `config` shows which won.",
		Version:       readVersion().String(),
		Args:          noCommandLike,
		RunE:          func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), w, s) },
		SilenceErrors: true,
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2,
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.SetArgs(w.args[1:])
	root.SetOut(w.stdout)
	root.SetErr(w.stderr)
	root.Flags().AddFlagSet(s.flags)
	root.AddCommand(
		serveCommand(w, s),
		checkCommand(w, s),
		configCommand(w, s),
		healthcheckCommand(w, s),
		importCommand(w, s),
		exportCommand(w, s),
		backupCommand(w, s),
		restoreCommand(w, s),
		compactCommand(w, s),
		migrateCommand(w, s),
	)
	for _, cmd := range root.Commands() { // examples speak of the program by the name it was called
		cmd.Example = strings.ReplaceAll(cmd.Example, "app ", root.Name()+" ")
	}
	return root.ExecuteContext(ctx)
}

// noCommandLike refuses what the first argument is, since it is no command.
func noCommandLike(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "; see " + cmd.Name() + " --help"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError{fmt.Errorf("unknown command %q%s", args[0], hint)}
}

// noArguments refuses arguments of a command that takes none.
func noArguments(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}

// usageError marks a mistake in how the program was called or set up.
type usageError struct{ error }

// Unwrap gives the mistake.
func (e usageError) Unwrap() error { return e.error }

// The exit codes, which scripts rely on.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitPartial     = 3   // an import refused some lines, or an export left some people out; the others are there
	exitLocked      = 4   // another process has the store
	exitDamaged     = 5   // the store cannot be used
	exitSchema      = 6   // the schema of the database is behind
	exitInterrupted = 130 // as a shell says of SIGINT
)

func exitCode(err error) int {
	var usage usageError
	var schema *postgres.SchemaError
	var leftOut *birthday.LeftOutError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errPartial), errors.As(err, &leftOut):
		return exitPartial
	case errors.Is(err, bolt.ErrLocked):
		return exitLocked
	case errors.Is(err, bolt.ErrDamaged):
		return exitDamaged
	case errors.As(err, &schema):
		return exitSchema
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitFailure
}
