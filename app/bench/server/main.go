// Command server is a PostgreSQL server that measurements are made on, with its
// default settings and an empty data base. It prints the URL of that, and ends when
// its standard input does.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"birthday-demo/app/store/postgres/pgtest"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	server, err := pgtest.New(pgtest.Options{})
	if err != nil {
		return err
	}
	fmt.Println(server.URL("postgres"))
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, server.Close())
}
