package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"birthday-demo/app/birthday"
)

// Codes of errors, SQLSTATE, and their classes: the first two characters.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	readOnly             = "25006" // a standby, or a primary that has become one
	serializationFailure = "40001"
	deadlock             = "40P01"
	undefinedColumn      = "42703"
	undefinedTable       = "42P01"
	noPrivilege          = "42501"
	lockNotAvailable     = "55P03"
	duplicateObject      = "42710"
	uniqueViolation      = "23505"
	internalError        = "XX000"
	adminShutdown        = "57P01"
	crashShutdown        = "57P02"
	cannotConnectNow     = "57P03"

	badData       = "22"
	badRow        = "23"
	connection    = "08"
	authorization = "28"
	noDatabase    = "3D"
	rollback      = "40"
	resources     = "53" // full disk, too many connections
	intervention  = "57" // shutdown, statement time-out
	system        = "58" // input or output failed
)

// tellable are the classes of errors of which the server's own words may be told:
// they are about the server, its schema and its rights. What others say may quote the
// values of a row.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
var tellable = []string{
	connection, authorization, noDatabase, rollback, resources, intervention, system,
	"0A", "25", "42", "54", "55", "XX",
}

// redacted is an error without the words of the server.
type redacted struct {
	error
	text string
}

// Error gives what may be told.
func (r redacted) Error() string { return r.text }

// Unwrap gives the error, for its code.
func (r redacted) Unwrap() error { return r.error }

// redact leaves out of the text of an error what may be a username or a date.
func redact(err error) error {
	reported, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || slices.Contains(tellable, class(reported.Code)) {
		return err
	}
	instead := "the server refused what it was sent"
	if reported.ConstraintName != "" {
		instead += ", for the constraint " + reported.ConstraintName
	}
	return redacted{err, strings.ReplaceAll(err.Error(), reported.Error(), fmt.Sprintf("%s (SQLSTATE %s)", instead, reported.Code))}
}

// code is the SQLSTATE of an error that the server reported, or "".
func code(err error) string {
	if reported, ok := errors.AsType[*pgconn.PgError](err); ok {
		return reported.Code
	}
	return ""
}

// class is the first two characters of a code.
func class(code string) string { return code[:min(2, len(code))] }

// stale says whether the server of this connection is not to be written to.
func stale(err error) bool {
	c := code(err)
	return slices.Contains([]string{readOnly, adminShutdown, crashShutdown, cannotConnectNow}, c) ||
		class(c) == connection || errors.Is(err, ErrReadOnly)
}

// lost says whether the connection, not the server, is what failed.
func lost(err error) bool {
	if _, network := errors.AsType[net.Error](err); network && !errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, pgconn.ErrConnClosed) || connectFailed(err) || class(code(err)) == connection
}

// connectFailed says whether there was no connection at all.
func connectFailed(err error) bool {
	_, failed := errors.AsType[*pgconn.ConnectError](err)
	return failed
}

// keptNothing says whether a statement surely changed nothing and may well
// succeed on another try. The server reports admin_shutdown only to statements
// that it did not commit; of crash_shutdown that is not known.
func keptNothing(err error) bool {
	switch code(err) {
	case readOnly, serializationFailure, deadlock, adminShutdown, cannotConnectNow:
		return true
	}
	return connectFailed(err) || errors.Is(err, ErrReadOnly) || pgconn.SafeToRetry(err)
}

// atFault says whether a statement kept nothing for what one of its rows is.
func atFault(err error) bool {
	c := class(code(err))
	return c == badData || c == badRow
}

// explain marks the errors after which the same call may succeed later, as soon
// as somebody has seen to the database. Their texts may be logged.
func explain(err error) error {
	err = redact(err)
	c := code(err)
	switch {
	case err == nil, errors.Is(err, birthday.ErrUnavailable), errors.Is(err, birthday.ErrNotFound):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: the database does not answer: %w", birthday.ErrUnavailable, err)
	case errors.Is(err, context.Canceled) && !connectFailed(err):
		return err
	case c == readOnly:
		return fmt.Errorf("%w: %w: %w", birthday.ErrUnavailable, ErrReadOnly, err)
	case errors.Is(err, ErrReadOnly):
		return unavailable(err)
	case c == undefinedTable || c == undefinedColumn || c == noPrivilege:
		return fmt.Errorf("%w: run `migrate up`: %w", birthday.ErrUnavailable, err)
	case lost(err), c == lockNotAvailable,
		slices.Contains([]string{authorization, noDatabase, rollback, resources, intervention, system}, class(c)):
		return unavailable(err)
	}
	return err
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", birthday.ErrUnavailable, err) }
