// Command bare answers every request with one greeting: net/http without a
// router, a store or a log. It is what GETs are measured against.
package main

import (
	"flag"
	"log"
	"net/http"
)

var body = []byte(`{"message":"Hello, abcdefghijkl! Your birthday is in 123 day(s)"}`)

func main() {
	listen := flag.String("listen", "localhost:8090", "address")
	flag.Parse()
	greet := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write(body) // the client went away: nobody is left to tell
	})
	log.Fatal(http.ListenAndServe(*listen, greet)) //nolint:gosec // bare, and for loopback only
}
