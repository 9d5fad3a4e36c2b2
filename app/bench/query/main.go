// Command query is a handler and a query of PostgreSQL for each request: net/http
// and pgx, without a router, rules, a log or metrics. It is what the service on
// PostgreSQL is measured against.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	get = `SELECT date_of_birth FROM people WHERE username = $1`
	put = `INSERT INTO people (username, date_of_birth) VALUES ($1, $2)
		ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth`
)

var body = []byte(`{"message":"Hello, abcdefghijkl! Your birthday is in 123 day(s)"}`)

func main() {
	listen := flag.String("listen", "localhost:8090", "address")
	store := flag.String("store", "", "URL of a database that the real program has migrated")
	flag.Parse()
	pool, err := pgxpool.New(context.Background(), *store)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{username}", func(w http.ResponseWriter, r *http.Request) {
		var born time.Time
		if err := pool.QueryRow(r.Context(), get, r.PathValue("username")).Scan(&born); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write(body) // the client went away: nobody is left to tell
	})
	mux.HandleFunc("PUT /hello/{username}", func(w http.ResponseWriter, r *http.Request) {
		var sent struct{ DateOfBirth string }
		err := json.NewDecoder(r.Body).Decode(&sent)
		if err == nil {
			_, err = pool.Exec(r.Context(), put, r.PathValue("username"), sent.DateOfBirth)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	log.Fatal(http.ListenAndServe(*listen, mux)) //nolint:gosec // for loopback only
}
