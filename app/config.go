package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func configCommand(w world, s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Print the settings in force and where each came from",
		Example: "  BIRTHDAY_TIME_ZONE=Asia/Tokyo app config",
		Args:    noArguments,
		RunE:    func(*cobra.Command, []string) error { return printConfig(w, s) },
	}
	cmd.Flags().AddFlagSet(s.flags)
	return cmd
}

// printConfig prints all settings, passwords masked, also when some are wrong:
// then it ends with the faults.
func printConfig(w world, s *settings) error {
	loadErr := s.load(w)
	table := tabwriter.NewWriter(w.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SETTING\tVALUE\tSOURCE")
	s.flags.VisitAll(func(f *pflag.Flag) {
		value := shown(f)
		if s.content[f.Name] != "" {
			value = masked
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", f.Name, value, s.source[f.Name])
	})
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the settings: %w", err)
	}
	for _, warning := range s.unknownVariables(w) {
		_, _ = fmt.Fprintln(w.stderr, "warning:", warning)
	}
	return loadErr
}
