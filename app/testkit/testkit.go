// Package testkit is what tests of several packages share: it is in no program.
package testkit

import (
	"bytes"
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
