package main

import (
	"github.com/spf13/cobra"

	"birthday-demo/app/store/bolt"
)

func restoreCommand(w world, s *settings) *cobra.Command {
	var force bool
	var t talk
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a copy in the place of the store; the service must be stopped",
		Long: "Verifies the copy and puts it in the place of the store, in one step that a crash\n" +
			"cannot halve. A damaged copy is refused, and a store that holds people unless\n" +
			"--force is given.",
		Example: "  app restore /backup/birthday.db --store birthday.db",
		Args:    oneFile,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := s.load(w); err != nil {
				return err
			}
			report, err := bolt.Restore(s.Store, args[0], force)
			if err != nil {
				return err
			}
			return t.say(w, report, "restored %s: %d bytes, people: %d", s.Store, report.Bytes, report.People)
		},
	}
	s.share(cmd, "store")
	cmd.Flags().BoolVar(&force, "force", false, "replace a store that holds people, or cannot be read")
	t.define(cmd)
	return cmd
}
