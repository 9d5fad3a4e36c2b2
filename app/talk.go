package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

// talk is how a data command says what it did: to people on the standard error,
// to programs on the standard output.
type talk struct{ quiet, json bool }

// define adds the flags to a command.
func (t *talk) define(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&t.quiet, "quiet", "q", false, "say nothing but errors")
	cmd.Flags().BoolVar(&t.json, "json", false, "print what was done as JSON on the standard output")
}

// say tells what was done, in a sentence and as a value.
func (t *talk) say(w world, value any, format string, args ...any) error {
	if t.json {
		if err := json.NewEncoder(w.stdout).Encode(value); err != nil {
			return fmt.Errorf("print the report: %w", err)
		}
	}
	if !t.quiet {
		_, _ = fmt.Fprintf(w.stderr, format+"\n", args...)
	}
	return nil
}

// requireFile refuses --json where the data itself goes to the standard output.
func (t *talk) requireFile(path string) error {
	if t.json && path == "-" {
		return usageError{fmt.Errorf("--json needs a file: the standard output takes the data")}
	}
	return nil
}
