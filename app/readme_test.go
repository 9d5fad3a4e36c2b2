//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/testkit"
)

// readmeLine is a command of the README and what it should print.
type readmeLine struct{ command, output string }

// readmeCommands reads the console blocks: lines that start with $, or all
// lines where none does.
func readmeCommands(t *testing.T, kind string) (lines []readmeLine) {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	for _, block := range regexp.MustCompile("(?s)```"+kind+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		prompted := strings.HasPrefix(block[1], "$ ")
		for line := range strings.Lines(block[1]) {
			command, isCommand := strings.CutPrefix(line, "$ ")
			switch {
			case isCommand || !prompted:
				lines = append(lines, readmeLine{command: strings.TrimSpace(command)})
			default:
				lines[len(lines)-1].output += line
			}
		}
	}
	return lines
}

// TestTheReadmesCommands runs what the README shows, in its order but for the
// start of the service, which comes first. Only the addresses and the place of
// the file are other ones.
func TestTheReadmesCommands(t *testing.T) {
	testkit.Needs(t, "curl", "curl")
	testkit.Needs(t, "make", "make")
	lines := readmeCommands(t, "console")
	require.Equal(t, "go run ./app", lines[2].command)
	address := goRunApp(t)
	ran := 0
	for _, line := range lines {
		switch program, _, _ := strings.Cut(line.command, " "); program {
		case "curl":
			command := strings.Replace(line.command, "http://localhost:8080", address, 1)
			require.NotEqual(t, line.command, command)
			out, err := exec.Command("sh", "-c", command+" --silent --show-error").CombinedOutput()
			require.NoError(t, err, "%s", out)
			digits := regexp.MustCompile(`[0-9]+ day`)
			require.Equal(t, digits.ReplaceAllString(line.output, "N day"), digits.ReplaceAllString(string(out)+newline(line.output), "N day"))
		case "make": // it runs this very test; see that it would
			out, err := exec.Command("make", "-C", "..", "-n", "test").CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Contains(t, string(out), "gotestsum")
		case "go":
			require.Equal(t, "go run ./app", line.command)
		default:
			t.Errorf("a command that no test runs: %s", line.command)
		}
		ran++
	}
	require.Equal(t, 4, ran)
}

// TestTheReadmesDataCommands runs those on a service and in a folder of its own.
func TestTheReadmesDataCommands(t *testing.T) {
	a := start(t)
	require.Equal(t, "204 ", a.put("ana", "1990-05-17"))
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "backup"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "birthdays.json"), []byte(`{"bob": "1980-01-01"}`), 0o600))
	ran := 0
	for _, line := range readmeCommands(t, "text") {
		words := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(line.command,
			"http://localhost:8081", a.internal), "/backup/", filepath.Join(folder, "backup")+"/"))
		require.Equal(t, "app", words[0])
		cmd := exec.Command(builtProgram(t), words[1:]...)
		cmd.Dir = folder
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", line.command, out)
		ran++
	}
	require.Equal(t, 4, ran)
	require.NoError(t, a.stop())
	exported, _, code := command(t, "", "export", "--format=csv", "--store="+filepath.Join(folder, "birthday.db"))
	require.Zero(t, code)
	require.Equal(t, "username,dateOfBirth\nana,1990-05-17\nbob,1980-01-01\n", exported)
}

// newline is what a terminal shows behind an answer that has no line end.
func newline(output string) string {
	if output == "" {
		return ""
	}
	return "\n"
}

// goRunApp runs `go run ./app` from the top folder, as a newcomer does, and
// gives the address that it says.
func goRunApp(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("go", "run", "./app")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "BIRTHDAY_LISTEN=localhost:0", "BIRTHDAY_ADMIN_LISTEN=localhost:0",
		"BIRTHDAY_STORE="+filepath.Join(t.TempDir(), "birthday.db"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // for Ctrl-C reaches the whole group
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	address, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var entry struct{ Msg, Public string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" {
				address <- entry.Public
			}
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
		<-ended
		_ = cmd.Wait() // go run says "interrupted" of itself
	})
	select {
	case a := <-address:
		return a
	case <-time.After(2 * time.Minute):
		t.Fatal("go run ./app did not start")
		return ""
	}
}

// TestTheReadmesTargets asks make for every target that the README names.
func TestTheReadmesTargets(t *testing.T) {
	testkit.Needs(t, "make", "make")
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	targets := regexp.MustCompile("`make ([a-z]+)`").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(targets), 4)
	for _, target := range targets {
		out, err := exec.Command("make", "-C", "..", "-n", target[1]).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}
