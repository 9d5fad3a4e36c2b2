// Package testkit is what tests of several packages share: it is in no program.
package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// Output is what a program writes, for tests that read it meanwhile.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write adds to it.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String gives all that was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Needs skips a test that wants a program of the distribution which is not
// there, and names the package it is in.
func Needs(t testing.TB, program, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		Missing(t, program, pkg)
	}
}

// Missing skips a test for want of something that a package of the distribution
// has. With TEST_REQUIRE_ALL the test fails instead: a skip must not look like a
// pass where everything should be installed.
func Missing(t testing.TB, what, pkg string) {
	t.Helper()
	text := "this test needs " + what + ": install the distribution's package " + pkg
	if os.Getenv("TEST_REQUIRE_ALL") != "" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// Again runs tests of the package once more, those that a pattern names but not the
// calling one, in a process of its own with a variable NAME=value. It gives what
// they printed, once all have passed.
func Again(t *testing.T, variable, pattern string) (output string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run="+pattern, "-test.skip=^"+t.Name()+"$", "-test.timeout=4m") //nolint:gosec // it is us
	cmd.Env = append(os.Environ(), variable)
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("--- SKIP")) {
		t.Fatalf("%s: %v\n%s", variable, err, out)
	}
	t.Logf("%s: %d tests passed", variable, bytes.Count(out, []byte("\n--- PASS: ")))
	return string(out)
}

// FreeAddress gives an address of the loopback interface that nobody listens on. Its
// port is below those that the kernel gives out by itself: who had it can have it
// again.
func FreeAddress() (string, error) {
	const tries, first, ports = 100, 10_000, 20_000
	for range tries {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(ports))) //nolint:gosec // chance needs no secrecy
		if err == nil {
			return listener.Addr().String(), listener.Close()
		}
	}
	return "", errors.New("found no free port")
}
