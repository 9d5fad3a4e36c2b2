package main

import (
	"errors"

	"github.com/spf13/cobra"

	"birthday-demo/app/store/bolt"
)

func compactCommand(w world, s *settings) *cobra.Command {
	var t talk
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Rewrite the store without what is left of erased people; the service must be stopped",
		Long: "A DELETE erases a person at once, but the bytes may stay in free pages of the\n" +
			"file. This writes a packed file without them and puts it in the place of the old\n" +
			"one, in one step that no crash and no Ctrl-C can halve.",
		Example: "  app compact --store birthday.db",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.load(w); err != nil {
				return err
			}
			if s.inDatabase() {
				return usageError{errors.New("compact is for a bbolt file; PostgreSQL reuses the room of erased people by itself (VACUUM)")}
			}
			report, err := bolt.Compact(cmd.Context(), s.Store)
			if err != nil {
				return err
			}
			return t.say(w, report, "compacted %s: %d bytes, people: %d", s.Store, report.Bytes, report.People)
		},
	}
	s.share(cmd, "store")
	t.define(cmd)
	return cmd
}
