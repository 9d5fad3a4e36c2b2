package pgtest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
)

var (
	shared      *Server
	startShared = sync.OnceValue(func() (err error) {
		shared, err = New(Options{Settings: map[string]string{"fsync": "off"}})
		return err
	})
)

// Shared gives the server of those tests of a package that do not harm it. It is
// started for the first of them, and cares for no power cut. TestMain is to run
// the tests as an M, which stops it.
func Shared(t testing.TB) *Server {
	t.Helper()
	Need(t)
	if err := startShared(); err != nil {
		t.Fatal(err)
	}
	return shared
}

// Empty makes an empty database on the shared server, and gives its URL.
func Empty(t testing.TB) (url string) {
	t.Helper()
	server := Shared(t)
	name, err := server.Database(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return server.URL(name)
}

// M runs the tests of a package.
type M struct{ *testing.M }

// Run runs them, and stops the shared server.
func (m M) Run() (exitCode int) {
	exitCode = m.M.Run()
	if shared == nil {
		return exitCode
	}
	if err := shared.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return exitCode
}
