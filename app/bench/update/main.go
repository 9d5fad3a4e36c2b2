// Command update takes PUTs into a bbolt file with a transaction of its own for
// each, as a first version would. It is what PUTs are measured against.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"time"

	"go.etcd.io/bbolt"
)

func main() {
	listen := flag.String("listen", "localhost:8090", "address")
	store := flag.String("store", "birthday.db", "file that the real program has made")
	flag.Parse()
	db, err := bbolt.Open(*store, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType, NoStatistics: true})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /hello/{username}", func(w http.ResponseWriter, r *http.Request) {
		if err := put(db, r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	log.Fatal(http.ListenAndServe(*listen, mux)) //nolint:gosec // for loopback only
}

// put keeps nine bytes for a username, as long as a record of the real program.
func put(db *bbolt.DB, r *http.Request) error {
	var body struct{ DateOfBirth string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return err
	}
	born, err := time.Parse(time.DateOnly, body.DateOfBirth)
	if err != nil {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("people")).Put([]byte(r.PathValue("username")), born.AppendFormat(nil, "2006 0102"))
	})
}
