package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/testkit"
)

const unitFolder = "../../devops/systemd"

// TestUnitsAreInOrder lets systemd read the units, and judge how much the service
// is exposed: 2.0 of 10 at most.
func TestUnitsAreInOrder(t *testing.T) {
	testkit.Needs(t, "systemd-analyze", "systemd")
	folder := t.TempDir()
	paths, err := filepath.Glob(unitFolder + "/birthday*")
	require.NoError(t, err)
	require.Len(t, paths, 3)
	for i, path := range paths {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		text := strings.Replace(string(content), "/usr/local/bin/birthday-demo", program(t), 1) // which must exist
		paths[i] = filepath.Join(folder, filepath.Base(path))
		require.NoError(t, os.WriteFile(paths[i], []byte(text), 0o600))
	}
	out, err := exec.Command("systemd-analyze", append([]string{"verify", "--man=no", "--recursive-errors=yes"}, paths...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, string(out))

	exposure := func(service string) (string, error) {
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", service).CombinedOutput()
		return string(out), err
	}
	service := filepath.Join(folder, "birthday.service")
	report, err := exposure(service)
	require.NoError(t, err, report)
	t.Log(regexp.MustCompile(`Overall exposure level .*: [0-9.]+`).FindString(report))

	content, err := os.ReadFile(service)
	require.NoError(t, err)
	bare := regexp.MustCompile(`(?m)^(Protect|Private|Restrict|SystemCall|Capability).*\n`).ReplaceAll(content, nil)
	require.NoError(t, os.WriteFile(service, bare, 0o600))
	_, err = exposure(service)
	require.Error(t, err, "a planted fault: the hardening is gone")
}

// TestTheUnitAllowsWhatTheServiceCalls compares the system calls of a service at
// work with those that the unit lets through.
func TestTheUnitAllowsWhatTheServiceCalls(t *testing.T) {
	testkit.Needs(t, "systemd-analyze", "systemd")
	testkit.Needs(t, "strace", "strace")
	folder := t.TempDir()
	trace := filepath.Join(folder, "trace")
	l, public := socketActivation(t)
	l.wrapper = append([]string{"strace", "-f", "-qq", "-o", trace}, l.wrapper...)
	l.env = append(l.env, "GOMEMLIMIT=230MiB")
	s := l.serve(t, filepath.Join(folder, "birthday.db"))
	c := &client{address: public}
	defer c.close()
	for i := range 50 {
		_, err := c.put("ana"+letters(i), aDate(i))
		require.NoError(t, err)
	}
	_, err := c.delete("anab")
	require.NoError(t, err)
	s.fetch(t, "/metrics")
	s.fetch(t, "/backup")
	s.signal(t, syscall.SIGTERM)
	s.wait(t)

	allowed := systemCalls(t, "@system-service")
	for _, set := range []string{"@privileged", "@resources"} {
		for name := range systemCalls(t, set) {
			delete(allowed, name)
		}
	}
	content, err := os.ReadFile(trace)
	require.NoError(t, err)
	_, own, found := strings.Cut(string(content), program(t)) // after the shell's exec of it
	require.True(t, found)
	denied, seen := map[string]bool{}, map[string]bool{}
	for _, call := range regexp.MustCompile(`(?m)^\d+ +([a-z0-9_]+)\(`).FindAllStringSubmatch(own, -1) {
		seen[call[1]] = true
		if !allowed[call[1]] {
			denied[call[1]] = true
		}
	}
	require.Contains(t, seen, "fdatasync", "it was at work")
	t.Logf("%d different system calls; denied: %v", len(seen), denied)
	require.Empty(t, denied)
}

// systemCalls gives the calls of a set of systemd's, with those of the sets in it.
func systemCalls(t *testing.T, set string) map[string]bool {
	t.Helper()
	out, err := exec.Command("systemd-analyze", "syscall-filter", set).Output()
	require.NoError(t, err)
	calls := map[string]bool{}
	for _, line := range strings.Split(string(out), "\n")[1:] {
		switch name := strings.TrimSpace(line); {
		case name == "" || name[0] == '#':
		case name[0] == '@':
			for call := range systemCalls(t, name) {
				calls[call] = true
			}
		default:
			calls[name] = true
		}
	}
	return calls
}
