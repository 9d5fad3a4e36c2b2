package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"birthday-demo/app/birthday"
	"birthday-demo/app/copies"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/tempfile"
)

func checkCommand(w world, s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Tell about the whole installation: settings, files, ports, store",
		Long: "Looks at everything that serve would need, and changes nothing. It may run\n" +
			"beside the service. The exit code is that of the gravest finding: 2 for\n" +
			"settings, 4 for a store that another process has, 5 for one that is damaged,\n" +
			"6 for a database whose schema is behind, 1 for the rest.",
		Example: "  app check --store /var/lib/birthday/birthday.db",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := &checkup{world: w, settings: s}
			return c.run(cmd.Context())
		},
	}
	cmd.Flags().AddFlagSet(s.flags)
	return cmd
}

// checkup is one run of the check command.
type checkup struct {
	world
	*settings
	faults checkError
}

// checkError is what a checkup found; each fault was printed as it was found.
type checkError []error

// Error counts the faults.
func (e checkError) Error() string { return fmt.Sprintf("the check found faults: %d", len(e)) }

// Unwrap gives the faults, which tell the exit code.
func (e checkError) Unwrap() []error { return e }

func (c *checkup) run(ctx context.Context) error {
	if err := c.load(c.world); err != nil {
		c.fault("settings", err)
	} else {
		c.ok("settings", "in order; `config` prints them")
	}
	for _, warning := range c.unknownVariables(c.world) {
		c.warn("settings", warning)
	}
	if len(c.faults) == 0 {
		c.today()
		c.tokenFiles()
		running := c.service(ctx)
		if c.inDatabase() {
			c.database(ctx)
		} else {
			c.file(running)
			c.backups()
		}
		c.ports(running)
	}
	if len(c.faults) > 0 {
		return c.faults
	}
	return nil
}

func (c *checkup) today() {
	zone, err := birthday.NewZones().Parse(c.TimeZone)
	if err != nil {
		c.fault("time zone", err)
		return
	}
	c.ok("time zone", "%s, where today is %s; leap-day birthdays on %s", c.TimeZone, birthday.DateOf(c.now().In(zone)), c.LeapDay)
}

func (c *checkup) tokenFiles() {
	t, err := loadTokens(c.settings, newLog(c.stderr, c.settings))
	if err != nil {
		c.fault("tokens", err)
		return
	}
	c.ok("tokens", "needed for writes: %s, for reads: %s", yes(t.write != nil), yes(t.read != nil))
	for _, path := range []string{c.WriteTokensFile, c.ReadTokensFile, c.AdminTokensFile} {
		if path != "" {
			c.private("tokens", path)
		}
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// private warns of a file that others may read.
func (c *checkup) private(what, path string) {
	info, err := os.Stat(path)
	if err != nil {
		c.fault(what, err)
		return
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		c.warn(what, fmt.Sprintf("others may read %s (mode %04o): chmod 600 %s", path, mode, path))
	}
}

// service says whether the service runs with these settings.
func (c *checkup) service(ctx context.Context) bool {
	var v version
	answer, err := ask(ctx, c.AdminListen, "/version")
	if err != nil || json.Unmarshal([]byte(answer), &v) != nil || v.Go == "" {
		c.ok("service", "none answers on %s", c.AdminListen)
		return false
	}
	answer, err = ask(ctx, c.AdminListen, "/readyz")
	if err != nil {
		c.fault("service", err)
		return true
	}
	c.ok("service", "version %s answers on %s: %s", v.Version, c.AdminListen, answer)
	return true
}

// database asks the server what it would do for serve, and what it promises.
func (c *checkup) database(ctx context.Context) {
	where := shown(c.flags.Lookup("store"))
	if c.StorePasswordFile != "" {
		c.private("store", c.StorePasswordFile)
	}
	store, err := postgres.Open(ctx, c.Store, c.settings.database())
	if err != nil {
		c.fault("store", err)
		return
	}
	defer func() { _ = store.Close() }() // it wrote nothing
	server, err := store.Inspect(ctx)
	if err != nil {
		c.fault("store", fmt.Errorf("%s: %w", where, err))
		return
	}
	size, err := store.Size()
	if ping := store.Ping(ctx); ping != nil {
		err = ping // which may explain the other
	}
	if err != nil {
		c.fault("store", fmt.Errorf("%s: %w", where, err))
	} else {
		c.ok("store", "%s, %d bytes, PostgreSQL %s as %s, takes reads and writes", where, size, server.Version, server.User)
		c.broken(ctx, store)
	}
	if exposed, err := postgres.Exposed(c.Store); err == nil && exposed {
		c.warn("store", "somebody on the way to the server could read birth dates and passwords: add sslmode=verify-full and\n"+
			"sslrootcert to the URL")
	}
	c.promise(server)
	c.replicas(ctx)
	c.ok("backups", "are the database's own, or made by `backup`")
}

// broken counts the rows that a GET cannot answer.
func (c *checkup) broken(ctx context.Context, store *postgres.Store) {
	n, err := store.Broken(ctx)
	if err != nil {
		c.fault("store", err)
		return
	}
	if n > 0 {
		c.warn("store", fmt.Sprintf("people whose birth date is no day from 0001-01-01 to 9999-12-31: %d. Their GET is a 500, and exports\n"+
			"leave them out. Find them with\n  %s;\nPUT their dates or DELETE them, and then, as the owner of the table,\n  %s;", n, postgres.FindBroken, postgres.ValidateDates))
	}
}

// replicas asks the servers that GET would read from. Without them, the primary
// answers.
func (c *checkup) replicas(ctx context.Context) {
	if c.ReadStore == "" {
		return
	}
	where := shown(c.flags.Lookup("read-store"))
	replicas, err := openReplicas(ctx, c.settings)
	if err == nil {
		defer func() { _ = replicas.Close() }() // it wrote nothing
		_, err = replicas.After(ctx, "", 1)
	}
	if err != nil {
		c.warn("replicas", fmt.Sprintf("%s: %v", where, err))
		return
	}
	c.ok("replicas", "%s can be read; what is read there may be behind", where)
}

// promise says what a 204 is worth on a server.
func (c *checkup) promise(s postgres.Server) {
	names := fmt.Sprintf("synchronous_standby_names = '%s', synchronous_commit = %s, fsync = %s", s.Standbys, s.Commit, s.Fsync)
	switch {
	case !s.Durable():
		c.warn("promise", "a 204 may be lost when the server crashes: "+names+"; turn both on")
	case !s.Replicated():
		c.warn("promise", "a 204 is synced to the server's disk before it is sent, and survives its crash; a failover to a\n"+
			"standby may lose the last ones: "+names+"\n"+
			"(where the storage itself is replicated, as Aurora's is, it loses none)")
	default:
		c.ok("promise", "a 204 is on the disk of the server and with a standby before it is sent, and survives the loss of one: %s", names)
	}
}

// file looks at the file without changing it.
func (c *checkup) file(running bool) {
	info, err := os.Stat(c.Store)
	_, linkErr := os.Lstat(c.Store)
	switch {
	case errors.Is(err, fs.ErrNotExist) && linkErr != nil:
		c.newStore()
		return
	case err != nil:
		c.fault("store", err)
		return
	case running && bolt.InUse(c.Store):
		c.ok("store", "%s, %d bytes, in use; stop the service to have every page of it verified", c.Store, info.Size())
	default:
		file, err := os.OpenFile(c.Store, os.O_RDWR, 0) // whether serve could, too
		if err != nil {
			c.fault("store", fmt.Errorf("cannot write %s as uid %d: %w; make it that user's", c.Store, os.Getuid(), err))
			return
		}
		_ = file.Close()
		report, err := bolt.Verify(c.Store)
		if err != nil {
			c.fault("store", err)
			return
		}
		c.ok("store", "%s, %d bytes, every page and record verified; people: %d", c.Store, report.Bytes, report.People)
	}
	c.private("store", c.Store)
	c.ok("promise", "a 204 is synced to this disk before it is sent; one process owns the file; a disk that is lost takes what was not backed up")
}

// newStore tries whether the file could be made.
func (c *checkup) newStore() {
	folder := filepath.Dir(c.Store)
	if err := tempfile.Try(folder); err != nil {
		c.fault("store", fmt.Errorf("cannot make %s as uid %d: %w; make the folder %s and give it to that user", c.Store, os.Getuid(), err, folder))
		return
	}
	c.ok("store", "%s does not exist yet, and can be made", c.Store)
}

// backups tells about the scheduled copies.
func (c *checkup) backups() {
	folder := c.BackupDir
	if folder == "" {
		c.ok("backups", "none are scheduled; --backup-dir names a folder for them")
		return
	}
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) && tempfile.Try(filepath.Dir(folder)) == nil {
		c.ok("backups", "%s does not exist yet, and can be made", folder)
		return
	}
	if err := tempfile.Try(folder); err != nil {
		c.fault("backups", fmt.Errorf("cannot write to %s as uid %d: %w; make the folder and give it to that user", folder, os.Getuid(), err))
		return
	}
	store, err := bolt.Identify(c.Store)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.warn("backups", fmt.Sprintf("which copies are of this store is not known: %v", err))
		return
	}
	found, unknown, err := copies.List(folder, c.Store, store.ID, c.now())
	if err != nil {
		c.fault("backups", err)
		return
	}
	text := fmt.Sprintf("%s can be written; copies: %d", folder, len(found))
	if len(found) > 0 {
		text += ", the newest of " + found[len(found)-1].Made.Format(time.RFC3339)
	}
	if unknown > 0 {
		c.warn("backups", fmt.Sprintf("%s has files with the name of a copy that are none of this store: %d; they are left alone", folder, unknown))
	}
	c.ok("backups", "%s", text)
}

// ports tries whether the addresses are free, unless the service has them.
func (c *checkup) ports(running bool) {
	if _, warning := c.connections(); warning != "" { // as of this process
		c.warn("ports", warning)
	}
	if running {
		return
	}
	for _, port := range []struct{ flag, address string }{{"listen", c.Listen}, {"admin-listen", c.AdminListen}} {
		listener, err := net.Listen("tcp", port.address)
		if err != nil {
			c.fault("ports", listenError(port.flag, port.address, err))
			continue
		}
		_ = listener.Close()
		c.ok("ports", "%s is free", port.address)
	}
}

func (c *checkup) ok(what, format string, args ...any) {
	c.line("ok", what, fmt.Sprintf(format, args...))
}

func (c *checkup) warn(what, text string) { c.line("warn", what, text) }

func (c *checkup) fault(what string, err error) {
	c.line("FAULT", what, err.Error())
	c.faults = append(c.faults, err)
}

func (c *checkup) line(verdict, what, text string) {
	_, _ = fmt.Fprintf(c.stdout, "%-5s  %-9s  %s\n", verdict, what, strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", 18)))
}
