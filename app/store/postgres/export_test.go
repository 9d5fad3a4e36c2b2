package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Pool gives the connections of the store, to measure what they can do.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// What is tried without a server.
var (
	ForPrograms = forPrograms
	Scatter     = scatter
)

// The statements of a single put and get.
const (
	UpsertOne = upsertOne
	SelectOne = selectOne
)

// UntilFree runs a statement as a step of the schema is run, within bound.
func UntilFree(ctx context.Context, url string, bound time.Duration, statement string) error {
	config, err := migrateConfig(url, Options{})
	if err != nil {
		return err
	}
	return untilFree(ctx, config, bound, func() error {
		return session(ctx, config, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, statement)
			return err
		})
	})
}
