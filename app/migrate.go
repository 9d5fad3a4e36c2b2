package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"birthday-demo/app/store/postgres"
)

func migrateCommand(w world, s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the schema of a database to what this version needs",
		Long: "A database needs `migrate up` before this version can serve from it, once for each\n" +
			"release that brings a step. The release before goes on working with the new\n" +
			"schema, so services need not stop. A bbolt file needs none of this.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return usageError{fmt.Errorf("%s: say up or status, not %q", cmd.CommandPath(), strings.Join(args, " "))}
		},
	}
	up := schemaCommand(w, s, postgresUp)
	up.Use, up.Short = "up", "Take the steps that are missing; several may run at once"
	up.Long = "Takes the steps that are missing, in their order. The URL's role needs the right to\n" +
		"make tables. With --app-user it also lets that role read and write people, and\n" +
		"nothing more; with --app-password it makes the role, or gives it that password."
	up.Example = "  app migrate up --store postgres://owner@db/birthday --app-user birthday_app"
	s.share(up, "app-user", "app-password")
	status := schemaCommand(w, s, postgresStatus)
	status.Use, status.Short = "status", "Tell which steps are missing; the exit code is 6 when there are any"
	status.Long = status.Short + ".\nIt changes nothing."
	status.Example = "  app migrate status --store postgres://owner@db/birthday"
	cmd.AddCommand(up, status)
	return cmd
}

func postgresUp(ctx context.Context, s *settings) (postgres.Schema, error) {
	return postgres.Migrate(ctx, s.Store, s.database(), postgres.Role{Name: s.AppUser, Password: s.AppPassword})
}

func postgresStatus(ctx context.Context, s *settings) (postgres.Schema, error) {
	return postgres.Status(ctx, s.Store, s.database())
}

// schemaCommand makes a command that does something about the schema, and tells how
// far it is.
func schemaCommand(w world, s *settings, do func(context.Context, *settings) (postgres.Schema, error)) *cobra.Command {
	var t talk
	cmd := &cobra.Command{
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.load(w); err != nil {
				return err
			}
			if !s.inDatabase() {
				return usageError{errors.New("a bbolt file has no schema; name a postgres:// URL with --store")}
			}
			schema, err := do(cmd.Context(), s)
			if err != nil {
				return err
			}
			text := fmt.Sprintf("the schema is at version %d, and this program needs %d", schema.Have, schema.Want)
			if len(schema.Pending) > 0 {
				text += "; missing: " + strings.Join(schema.Pending, ", ")
			}
			if err := t.say(w, schema, "%s", text); err != nil {
				return err
			}
			return schema.Err()
		},
	}
	s.share(cmd, "store", "store-password-file")
	t.define(cmd)
	return cmd
}
