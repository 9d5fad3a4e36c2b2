package postgres

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"birthday-demo/app/birthday"
)

// lockWrites keeps writers out, and lets readers in.
const (
	lockWrites      = `LOCK TABLE people IN SHARE ROW EXCLUSIVE MODE`
	selectAnybody   = `SELECT EXISTS (SELECT FROM people)`
	deleteEverybody = `DELETE FROM people`
)

var (
	// ErrNotEmpty says that a database holds people whom a restore would replace.
	ErrNotEmpty = errors.New("the database holds people")

	errNoPeople = errors.New("this is no copy of people")
)

// Dump writes the table of people, as it is at one moment, in the custom format of
// pg_dump, while others write on.
func Dump(ctx context.Context, url string, o Options, out io.Writer) error {
	if err := reach(ctx, url, o); err != nil {
		return fmt.Errorf("dump people: %w", explain(err))
	}
	conninfo, password, err := forPrograms(url, o)
	if err != nil {
		return err
	}
	cmd, err := client(ctx, "pg_dump", "--format=custom", "--encoding="+encoding, "--table=people", "--no-password", "--dbname="+conninfo)
	if err != nil {
		return err
	}
	if password != "" {
		cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	}
	target := &sink{Writer: out}
	cmd.Stdout = target
	if err := cmd.Run(); target.err == nil {
		return finish(cmd, err)
	}
	return target.err
}

// reach sees whether a database can be reached and keeps its text as it must.
func reach(ctx context.Context, url string, o Options) error {
	config, err := migrateConfig(url, o)
	if err != nil {
		return err
	}
	return session(ctx, config, func(*pgx.Conn) error { return nil })
}

// sink remembers why it could not be written to: the program only dies of it.
type sink struct {
	io.Writer
	err error
}

// Write passes on.
func (s *sink) Write(p []byte) (n int, err error) {
	n, err = s.Writer.Write(p)
	s.err = errors.Join(s.err, err)
	return n, err
}

// VerifyDump reads a dump to its end, and gives how many people it holds.
func VerifyDump(ctx context.Context, path string) (people int, err error) {
	d, err := readDump(ctx, path)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, d)
	return d.people, errors.Join(err, d.close())
}

// Restore puts the people of a dump in the place of all there are, in one step: a
// database that holds people is refused with ErrNotEmpty unless force is given.
// Meanwhile people can be read, and not be written. The schema must be there, and
// may be newer than the dump's. It gives how many people there are then. Rows that
// the table refuses for their birth date are left out: a *birthday.LeftOutError tells
// of them when all others are restored.
func Restore(ctx context.Context, url string, o Options, path string, force bool) (people int, err error) {
	leftOut := 0
	config, err := migrateConfig(url, o)
	if err == nil {
		config.RuntimeParams["application_name"] = "birthday-demo restore"
		err = untilFree(ctx, config, tableWait, func() (err error) {
			people, leftOut, err = restore(ctx, config, path, force)
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("restore %s: %w", path, explain(err))
	}
	if leftOut > 0 {
		return people, fmt.Errorf("restore %s: %w", path, &birthday.LeftOutError{Count: leftOut})
	}
	return people, nil
}

func restore(ctx context.Context, config *pgx.ConnConfig, path string, force bool) (people, leftOut int, err error) {
	err = session(ctx, config, func(conn *pgx.Conn) error {
		schema, err := readSchema(ctx, conn)
		if err == nil {
			err = schema.Err()
		}
		if err != nil {
			return err
		}
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if err := makeRoom(ctx, tx, force); err != nil {
				return err
			}
			people, leftOut, err = copyIn(ctx, tx, path)
			return err
		})
	})
	return people, leftOut, err
}

// makeRoom empties the table, unless nobody allowed that.
func makeRoom(ctx context.Context, tx pgx.Tx, force bool) error {
	if _, err := tx.Exec(ctx, lockWrites); err != nil {
		return err
	}
	var anybody bool
	if err := tx.QueryRow(ctx, selectAnybody).Scan(&anybody); err != nil || !anybody {
		return err
	}
	if !force {
		return fmt.Errorf("%w; use --force to replace them", ErrNotEmpty)
	}
	_, err := tx.Exec(ctx, deleteEverybody)
	return err
}

// copyIn puts the rows of a dump into the empty table.
func copyIn(ctx context.Context, tx pgx.Tx, path string) (people, leftOut int, err error) {
	d, err := readDump(ctx, path)
	if err != nil {
		return 0, 0, err
	}
	d.date = slices.Index(strings.Split(d.columns, ", "), "date_of_birth")
	_, err = tx.Conn().PgConn().CopyFrom(ctx, d, "COPY people ("+d.columns+") FROM STDIN")
	return d.people - d.leftOut, d.leftOut, errors.Join(d.close(), err) // a broken dump is the better reason
}

// dump reads the rows of people out of a dump, as COPY writes them.
type dump struct {
	cmd     *exec.Cmd
	kill    context.CancelFunc
	output  *bufio.Reader
	columns string // like username, date_of_birth
	people  int    // rows so far, with those that are left out
	row     []byte // what is left of one
	end     bool   // no more rows come
	broken  bool   // before their end

	date    int // which field must be a Date, or the row is left out; none when negative
	leftOut int
}

// copyStart begins the rows in what pg_restore writes, and copyEnd ends them.
var copyStart = regexp.MustCompile(`^COPY \S*\bpeople"? \(([a-z_, ]+)\) FROM stdin;\n$`)

const copyEnd = "\\.\n"

// readDump lets pg_restore read a dump, up to the rows of people.
func readDump(ctx context.Context, path string) (*dump, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd, err := client(ctx, "pg_restore", "--data-only", "--table=people", "--file=-", path)
	if err != nil {
		cancel()
		return nil, err
	}
	output, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	d := &dump{cmd: cmd, kill: cancel, output: bufio.NewReaderSize(output, 1<<20), date: -1}
	for {
		line, err := d.output.ReadString('\n')
		if err != nil {
			d.broken = true
			if err = d.close(); err == nil {
				err = errNoPeople
			}
			return nil, err
		}
		if found := copyStart.FindStringSubmatch(line); found != nil {
			d.columns = found[1]
			return d, nil
		}
	}
}

// Read gives the rows, and ends with them.
func (d *dump) Read(p []byte) (n int, err error) {
	for n < len(p) && !d.end {
		if len(d.row) == 0 {
			row, err := d.output.ReadSlice('\n')
			if err != nil {
				d.broken = true
				return n, fmt.Errorf("the copy ends too early: %w", io.ErrUnexpectedEOF)
			}
			if string(row) == copyEnd {
				d.end = true
				break
			}
			d.people++
			if !d.hasDate(row) {
				d.leftOut++
				continue
			}
			d.row = row
		}
		copied := copy(p[n:], d.row)
		n, d.row = n+copied, d.row[copied:]
	}
	if n == 0 && d.end {
		return 0, io.EOF
	}
	return n, nil
}

// hasDate reports whether the birth date of a row is one that the table takes.
func (d *dump) hasDate(row []byte) bool {
	if d.date < 0 {
		return true
	}
	fields := bytes.Split(bytes.TrimSuffix(row, []byte("\n")), []byte("\t")) // a tab in a field is written otherwise
	if d.date >= len(fields) {
		return true // the server tells what it is
	}
	_, err := birthday.ParseDate(string(fields[d.date]))
	return err == nil
}

// close ends pg_restore, whose judgement of the dump comes last. Nobody waits for
// rows that nobody reads.
func (d *dump) close() error {
	defer d.kill()
	if !d.end && !d.broken {
		d.kill()
		_ = d.cmd.Wait() // it was killed
		return nil
	}
	_, err := io.Copy(io.Discard, d.output)
	return finish(d.cmd, errors.Join(err, d.cmd.Wait()))
}

// client makes the command of a client program of PostgreSQL. It is in a group of
// its own: Ctrl-C is for us, who then end it.
func client(ctx context.Context, name string, arguments ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("there is no %s here: install PostgreSQL's client programs (Debian's package postgresql-client), "+
			"of the server's version or a newer one; or use export and import, which need none: %w", name, err)
	}
	cmd := exec.CommandContext(ctx, path, arguments...) //nolint:gosec // the operator names what it is about
	cmd.Stderr = new(bytes.Buffer)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}

// finish gives the error of a command with what it said.
func finish(cmd *exec.Cmd, err error) error {
	if err == nil {
		return nil
	}
	said, _ := cmd.Stderr.(*bytes.Buffer)
	if text := strings.TrimSpace(said.String()); text != "" {
		return fmt.Errorf("%s: %w: %s", cmd.Args[0], err, text)
	}
	return fmt.Errorf("%s: %w", cmd.Args[0], err)
}

// Parameters of a URL that mean the same to the programs.
var parameters = []string{
	"connect_timeout", "krbsrvname", "passfile", "service", "sslcert", "sslkey", "sslmode", "sslrootcert", "sslsni", "target_session_attrs",
}

// forPrograms makes of our URL what the programs of PostgreSQL connect with, and
// the password apart: everybody may see how a program was called. Like us, they are
// not to wait for ever.
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
func forPrograms(text string, o Options) (conninfo, password string, err error) {
	config, err := pgx.ParseConfig(text)
	if err != nil {
		return "", "", err // without the password
	}
	connConfig(config, o)
	if err := o.password()(context.Background(), config); err != nil {
		return "", "", err
	}
	values := map[string]string{
		"dbname": config.Database, "user": config.User, "application_name": "birthday-demo backup",
		"target_session_attrs": "read-write", "connect_timeout": "10",
		"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "30000",
	}
	_, query, _ := strings.Cut(text, "?")
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if slices.Contains(parameters, name) {
			values[name], _ = url.PathUnescape(value) // it was parsed above
		}
	}
	values["host"], values["port"] = hosts(config)
	values["options"] = serverOptions(config.RuntimeParams)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		conninfo += name + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(values[name]) + "' "
	}
	return strings.TrimSpace(conninfo), config.Password, nil
}

// hosts gives the hosts of a configuration and their ports, as lists. With TLS that
// is only preferred, pgx has each of them twice.
func hosts(config *pgx.ConnConfig) (names, ports string) {
	list := []string{config.Host}
	numbers := []string{strconv.Itoa(int(config.Port))}
	for _, f := range config.Fallbacks {
		if port := strconv.Itoa(int(f.Port)); f.Host != list[len(list)-1] || port != numbers[len(numbers)-1] {
			list, numbers = append(list, f.Host), append(numbers, port)
		}
	}
	return strings.Join(list, ","), strings.Join(numbers, ",")
}

// serverOptions gives what a URL sets on the server, as the parameter "options".
func serverOptions(settings map[string]string) string {
	words := []string{settings["options"]}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if name != "options" && name != "application_name" && name != "client_encoding" {
			words = append(words, "-c "+name+"="+strings.NewReplacer(`\`, `\\`, ` `, `\ `).Replace(settings[name]))
		}
	}
	return strings.TrimSpace(strings.Join(words, " "))
}
