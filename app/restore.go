package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"birthday-demo/app/birthday"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/postgres"
)

func restoreCommand(w world, s *settings) *cobra.Command {
	var force bool
	var t talk
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a copy in the place of the store; the service of a file must be stopped",
		Long: "Verifies the copy and puts it in the place of the store, in one step that a crash\n" +
			"cannot halve. A damaged copy is refused, and a store that holds people unless\n" +
			"--force is given. A database takes a dump, which needs pg_restore, after `migrate\n" +
			"up`; its services may go on, and writes wait or are refused meanwhile. Rows whose\n" +
			"birth date is no date are left out, and the exit code is 3.",
		Example: "  app restore /backup/birthday.db --store birthday.db",
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.load(w); err != nil {
				return err
			}
			report, err := restore(cmd.Context(), s, args[0], force)
			var leftOut *birthday.LeftOutError
			if err != nil && !errors.As(err, &leftOut) {
				return err
			}
			told := t.say(w, report, "restored %s: %d bytes, people: %d", shown(s.flags.Lookup("store")), report.Bytes, report.People)
			return errors.Join(told, err)
		},
	}
	s.share(cmd, "store", "store-password-file")
	cmd.Flags().BoolVar(&force, "force", false, "replace a store that holds people, or cannot be read")
	t.define(cmd)
	return cmd
}

// restore puts a copy in the place of the store, and tells what that holds then.
func restore(ctx context.Context, s *settings, path string, force bool) (report bolt.Report, err error) {
	if !s.inDatabase() {
		return bolt.Restore(ctx, s.Store, path, force)
	}
	if report.Bytes, err = fileSize(path); err != nil {
		return report, err
	}
	report.People, err = postgres.Restore(ctx, s.Store, s.database(), path, force)
	return report, err
}
