package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"birthday-demo/app/store/bolt"
)

func compactCommand(w world, s *settings) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Rewrite the store without what is left of erased people; the service must be stopped",
		Long: "A DELETE erases a person at once, but the bytes may stay in free pages of the\n" +
			"file. This writes a packed file without them and puts it in the place of the old\n" +
			"one, in one step that a crash cannot halve.",
		Example: "  app compact --store birthday.db",
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			if err := s.load(w); err != nil {
				return err
			}
			if err := bolt.Compact(s.Store); err != nil {
				return err
			}
			report, err := bolt.Verify(s.Store)
			if err != nil {
				return err
			}
			if !quiet {
				_, _ = fmt.Fprintf(w.stderr, "compacted %s: %d bytes, people: %d\n", s.Store, report.Bytes, report.People)
			}
			return nil
		},
	}
	s.share(cmd, "store")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "say nothing but errors")
	return cmd
}
