package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"birthday-demo/app/birthday"
)

const (
	// bulkTimeout bounds one chunk of an import, and how long an export waits
	// for its reader.
	bulkTimeout = time.Minute

	// pageSize is how many people an export reads at a time.
	pageSize = 5_000

	selectAnyBetween = `SELECT EXISTS (SELECT FROM people WHERE username BETWEEN $1 AND $2)`
)

// PutAll puts people who are sorted by username, each once, in one commit: for
// imports, where the caller chooses how many go into each.
//
// COPY is nearly three times as fast as an upsert, and cannot replace anybody. It
// is used when nobody's name is between the first and the last, as when a store
// moves over. Someone who comes in between just then makes it an upsert as well.
func (s *Store) PutAll(ctx context.Context, people []birthday.Person) error {
	for _, p := range people {
		if !exists(p.Born) {
			return fmt.Errorf("put people: %w", errNoDay)
		}
	}
	if len(people) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, bulkTimeout)
	defer cancel()
	err := s.inTransaction(ctx, func(tx pgx.Tx) error { return copyOrUpsert(ctx, tx, people) })
	if code(err) == uniqueViolation {
		err = s.inTransaction(ctx, func(tx pgx.Tx) error { return upsert(ctx, tx, people) })
	}
	if err != nil {
		return fmt.Errorf("put people: %w", err)
	}
	return nil
}

// inTransaction runs do in a transaction that may take its time.
func (s *Store) inTransaction(ctx context.Context, do func(pgx.Tx) error) error {
	return s.attempt(ctx, keptNothing, func(ctx context.Context, conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if err := patience(ctx, tx); err != nil {
				return err
			}
			return do(tx)
		})
	})
}

// patience lets the statements of a transaction take longer than others.
func patience(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "SET LOCAL statement_timeout = "+milliseconds(bulkTimeout))
	return err
}

func copyOrUpsert(ctx context.Context, tx pgx.Tx, people []birthday.Person) error {
	var taken bool
	first, last := people[0].Username, people[len(people)-1].Username
	err := tx.QueryRow(ctx, selectAnyBetween, string(first), string(last)).Scan(&taken)
	if err != nil {
		return err
	}
	if taken {
		return upsert(ctx, tx, people)
	}
	rows := pgx.CopyFromSlice(len(people), func(i int) ([]any, error) {
		return []any{string(people[i].Username), midnight(people[i].Born)}, nil
	})
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"people"}, []string{"username", "date_of_birth"}, rows)
	return err
}

// All reads everyone in the order of the bytes of their usernames, as they were
// at one moment, however long it takes. The server keeps that moment's rows until
// the end: a reader who does not take the next page for a minute gets an error.
// Without that need, read pages with After, which hold nothing in between.
func (s *Store) All(ctx context.Context) iter.Seq2[birthday.Person, error] {
	return func(yield func(birthday.Person, error) bool) {
		if err := s.snapshot(ctx, yield); err != nil {
			yield(birthday.Person{}, fmt.Errorf("read all people: %w", explain(err)))
		}
	}
}

// snapshot reads pages in one transaction, on a connection that it takes out of
// the pool: a slow reader keeps nobody from closing that.
func (s *Store) snapshot(ctx context.Context, yield func(birthday.Person, error) bool) error {
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		return s.closedIsUnavailable(err)
	}
	conn := pooled.Hijack()
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "SET LOCAL idle_in_transaction_session_timeout = "+milliseconds(bulkTimeout))
	if err = errors.Join(err, patience(ctx, tx)); err != nil {
		return err
	}
	for last := birthday.Username(""); ; {
		people, err := s.nextPage(ctx, conn, last)
		if err != nil || len(people) == 0 {
			return err
		}
		for _, p := range people {
			if !yield(p, nil) {
				return nil
			}
		}
		last = people[len(people)-1].Username
	}
}

// nextPage reads a page of a snapshot.
func (s *Store) nextPage(ctx context.Context, conn *pgx.Conn, last birthday.Username) ([]birthday.Person, error) {
	select {
	case <-s.closed:
		return nil, fmt.Errorf("%w: the store is closed", birthday.ErrUnavailable)
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, bulkTimeout)
	defer cancel()
	return page(ctx, conn, last, pageSize)
}
