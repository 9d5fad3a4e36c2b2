package postgres

import "github.com/jackc/pgx/v5/pgxpool"

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
