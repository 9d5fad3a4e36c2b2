package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// The steps of the schema. They only ever expand it, or contract what no release
// in use needs any more: the release before works on the schema of the next.
//
//go:embed migrations/*.sql
var migrations embed.FS

const selectVersion = `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`

// Schema says how far a database is.
type Schema struct {
	Have    int64    `json:"have"`
	Want    int64    `json:"want"`    // by this program; a newer schema serves as well
	Pending []string `json:"pending"` // the steps between
}

// Err is a *SchemaError when the database is behind, else nil.
func (s Schema) Err() error {
	if s.Have < s.Want {
		return &SchemaError{s.Have, s.Want}
	}
	return nil
}

// SchemaError says that a database is behind this program.
type SchemaError struct{ Have, Want int64 }

// Error says what to do.
func (e *SchemaError) Error() string {
	return fmt.Sprintf("the schema of the database is at version %d, and this program needs %d: run `migrate up`", e.Have, e.Want)
}

// Migrate brings the schema of a database to what this program needs, and lets
// the role app serve from it. The URL's role needs the right to make tables, and
// roles when app is to be made. Several may run at once: they take turns.
func Migrate(ctx context.Context, url string, o Options, app Role) (Schema, error) {
	config, err := migrateConfig(url, o)
	if err == nil {
		err = up(ctx, config, o)
	}
	if err == nil && app.Name != "" {
		err = app.admit(ctx, config)
	}
	if code(err) == noPrivilege {
		return Schema{}, fmt.Errorf("migrate: the URL's role may not do that: use the owner of the database, "+
			"with CREATEROLE where a role is to be made or gets a password: %w", err)
	}
	if err != nil {
		return Schema{}, fmt.Errorf("migrate: %w", explain(err))
	}
	return Status(ctx, url, o)
}

// Status tells how far a database is, and changes nothing.
func Status(ctx context.Context, url string, o Options) (Schema, error) {
	config, err := migrateConfig(url, o)
	var schema Schema
	if err == nil {
		err = session(ctx, config, func(conn *pgx.Conn) (err error) {
			schema, err = readSchema(ctx, conn)
			return err
		})
	}
	if err != nil {
		return Schema{}, fmt.Errorf("read the schema's version: %w", explain(err))
	}
	return schema, nil
}

// up takes the steps that are missing, each in a transaction. Whose turn it is keeps
// it, also while a step waits for those who use the table.
func up(ctx context.Context, config *pgx.ConnConfig, o Options) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300), lock.WithUnlockTimeout(1, 10))
	if err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(o.password()))
	defer func() { _ = db.Close() }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	turn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = turn.Close() }()
	if err := locker.SessionLock(ctx, turn); err != nil {
		return err
	}
	defer func() { _ = locker.SessionUnlock(context.WithoutCancel(ctx), turn) }() // or the connection's end does it
	return untilFree(ctx, config, tableWait, func() error {
		_, err := provider.Up(ctx)
		return err
	})
}

// migrateConfig makes the configuration of a connection for what locks the table,
// which may take its time once it has the lock. What the URL says of that is for
// the statements of services.
func migrateConfig(url string, o Options) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err // without the password
	}
	connConfig(config, o)
	withDefaults(config.RuntimeParams, map[string]string{"application_name": "birthday-demo migrate"})
	config.RuntimeParams["lock_timeout"] = milliseconds(tableLockTimeout)
	return config, o.password()(context.Background(), config)
}

// session runs what is done on a connection of its own.
func session(ctx context.Context, config *pgx.ConnConfig, do func(*pgx.Conn) error) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return do(conn)
}

func readSchema(ctx context.Context, db querier) (Schema, error) {
	schema := Schema{Want: wanted(), Pending: []string{}}
	err := db.QueryRow(ctx, selectVersion).Scan(&schema.Have)
	if code(err) == undefinedTable {
		err = nil
	}
	for _, s := range steps() {
		if s.version > schema.Have {
			schema.Pending = append(schema.Pending, s.name)
		}
	}
	return schema, err
}

// step is one file of the migrations.
type step struct {
	version int64
	name    string
}

// steps gives all, in their order.
func steps() (all []step) {
	files, err := fs.ReadDir(migrations, "migrations")
	if err != nil {
		panic(err) // they are in the program
	}
	for _, file := range files {
		version, err := goose.NumericComponent(file.Name())
		if err != nil {
			panic(err)
		}
		all = append(all, step{version, strings.TrimSuffix(file.Name(), ".sql")})
	}
	slices.SortFunc(all, func(a, b step) int { return int(a.version - b.version) })
	return all
}

// wanted is the version that this program needs.
func wanted() int64 {
	all := steps()
	return all[len(all)-1].version
}
