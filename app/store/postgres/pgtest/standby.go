package pgtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// standbyName is what a standby calls itself.
const standbyName = "standby"

// Standby makes and starts a server that follows this one. With synchronous, this
// one acknowledges nothing from then on that the standby does not have as well.
func (s *Server) Standby(ctx context.Context, synchronous bool) (*Server, error) {
	standby, err := newServer(s.options, s.password)
	if err != nil {
		return nil, err
	}
	standby.CA = s.CA
	err = runProgram("pg_basebackup", "--pgdata", standby.data(), "--write-recovery-conf", "--checkpoint", "fast", "--no-sync",
		"--dbname", s.URL("postgres")+"&application_name="+standbyName)
	if err == nil {
		err = standby.Start()
	}
	if err == nil && synchronous {
		err = s.follow(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	return standby, nil
}

// follow has the server wait for its standby.
func (s *Server) follow(ctx context.Context) error {
	err := errors.Join(
		s.Exec(ctx, "postgres", "ALTER SYSTEM SET synchronous_standby_names = '"+standbyName+"'"),
		s.Exec(ctx, "postgres", "SELECT pg_reload_conf()"))
	if err != nil {
		return err
	}
	return s.until(ctx, "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')")
}

// Promote makes a standby a primary, and waits until it is one.
func (s *Server) Promote(ctx context.Context) error {
	return s.until(ctx, "SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote() ELSE true END")
}

// until waits until a query answers true.
func (s *Server) until(ctx context.Context, query string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	for so := false; err == nil && !so; {
		select {
		case <-ctx.Done():
			err = fmt.Errorf("%s: %w", query, ctx.Err())
		case <-time.After(10 * time.Millisecond):
			err = conn.QueryRow(ctx, query).Scan(&so)
		}
	}
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}
