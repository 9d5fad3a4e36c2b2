package postgres

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Role is whom a service connects as, other than whoever makes the tables. With
// a password it is made when missing, and gets the password; without one it must
// be there.
type Role struct{ Name, Password string }

const (
	// grantLock has those who grant at once take turns: PostgreSQL refuses to change
	// the rights of a table twice at once.
	grantLock = 0x62697274686461 // "birthda", beside goose's own

	// grantLockTimeout is how long that turn is waited for. To grant locks no table:
	// no service waits behind it.
	grantLockTimeout = 5 * time.Second
)

// admit lets the role read and write people, and nothing more.
func (r Role) admit(ctx context.Context, config *pgx.ConnConfig) error {
	verifier, err := r.verifier()
	if err != nil {
		return err
	}
	config = config.Copy()
	config.RuntimeParams["lock_timeout"] = milliseconds(grantLockTimeout)
	const tries = 3 // roles are shared by databases that may all be migrated now
	for range tries {
		err = session(ctx, config, func(conn *pgx.Conn) error {
			return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return r.grant(ctx, tx, verifier) })
		})
		if c := code(err); c != duplicateObject && c != uniqueViolation && c != internalError {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("admit the role %q: %w", r.Name, err)
	}
	return nil
}

func (r Role) grant(ctx context.Context, tx pgx.Tx, verifier string) error {
	var known, same bool
	var schema, database string
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1), current_user = $1,
		quote_ident(current_schema()), quote_ident(current_database()) FROM pg_advisory_xact_lock($2)`,
		r.Name, int64(grantLock)).Scan(&known, &same, &schema, &database)
	switch {
	case err != nil:
		return err
	case same && verifier != "":
		return errors.New("it is the URL's own role, whose password is not changed here; name another one, or none")
	case same:
		return nil
	case !known && verifier == "":
		return errors.New("there is no such role: give it a password, or make it first")
	}
	role := pgx.Identifier{r.Name}.Sanitize()
	var statements []string
	if !known {
		statements = append(statements, "CREATE ROLE "+role+" LOGIN")
	}
	if verifier != "" {
		statements = append(statements, "ALTER ROLE "+role+" LOGIN PASSWORD '"+verifier+"'")
	}
	statements = append(statements,
		"GRANT CONNECT ON DATABASE "+database+" TO "+role,
		"GRANT USAGE ON SCHEMA "+schema+" TO "+role,
		"GRANT SELECT, INSERT, UPDATE, DELETE ON people TO "+role,
		"GRANT SELECT ON goose_db_version TO "+role)
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// verifier is what the server keeps of the password (RFC 5803): made here, so
// that the password itself is in no statement and so in no log of the server.
func (r Role) verifier() (string, error) {
	if r.Password == "" {
		return "", nil
	}
	for _, c := range []byte(r.Password) {
		if c < ' ' || c > '~' {
			return "", errors.New("the password of the role must be printable ASCII")
		}
	}
	const iterations, saltSize = 4096, 16
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // it never fails
	salted, err := pbkdf2.Key(sha256.New, r.Password, salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	sign := func(text string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, encode(salt), encode(stored[:]), encode(sign("Server Key"))), nil
}
