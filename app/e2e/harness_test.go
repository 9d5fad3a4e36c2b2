package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"birthday-demo/app/store/postgres/pgtest"
	"birthday-demo/app/testkit"
)

// TestMain also is the door to the programs that are broken on purpose: a test
// starts this binary again, and a variable says as which of them.
func TestMain(m *testing.M) {
	if broken, ok := brokenPrograms[os.Getenv(brokenVariable)]; ok {
		broken()
		return
	}
	goleak.VerifyTestMain(pgtest.M{M: m}, goleak.Cleanup(func(exitCode int) {
		if buildFolder != "" {
			_ = os.RemoveAll(buildFolder)
		}
		os.Exit(exitCode)
	}))
}

// brokenVariable names the broken program to be; see brokenPrograms.
const brokenVariable = "E2E_BROKEN"

// asBroken is the launch of a broken program.
func asBroken(name string) launch {
	return launch{program: os.Args[0], env: []string{
		brokenVariable + "=" + name,
		"GORACE=atexit_sleep_ms=0", // else the race detector waits for a second
	}}
}

var buildFolder string

// buildProgram builds the program once for all tests.
var buildProgram = sync.OnceValues(func() (path string, err error) {
	if buildFolder, err = os.MkdirTemp("", "birthday-e2e-*"); err != nil {
		return "", err
	}
	path = filepath.Join(buildFolder, "birthday-demo")
	build := exec.Command("go", "build", "-o", path, "./app")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// program gives the path of the built program.
func program(t testing.TB) string {
	t.Helper()
	path, err := buildProgram()
	require.NoError(t, err)
	return path
}

// long says whether to prove at length.
func long() bool { return os.Getenv("PROVE") == "long" }

// size is how much of something to do, in the form that was asked for.
func size(short, atLength int) int {
	if long() {
		return atLength
	}
	return short
}

// seed gives the number that SEED names, or a new one, and prints it.
func seed(t testing.TB) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		n = uint64(time.Now().UnixNano()) % 1_000_000 //nolint:forbidigo // a number that is new
	}
	t.Logf("SEED=%d", n)
	return n
}

// proof is what one proof found.
type proof struct {
	Proof   string         `json:"proof"`
	Figures map[string]any `json:"figures"`
	Planted string         `json:"planted"` // what was broken on purpose
	Caught  bool           `json:"caught"`  // whether that was noticed
}

// keep prints the figures, and adds them to the folder that PROOFS_OUT names.
func (p proof) keep(t testing.TB) {
	t.Helper()
	p.Figures["form"] = "short"
	if long() {
		p.Figures["form"] = "long"
	}
	line, err := json.Marshal(p)
	require.NoError(t, err)
	t.Logf("%s", line)
	if folder := os.Getenv("PROOFS_OUT"); folder != "" {
		require.NoError(t, os.MkdirAll(folder, 0o750))
		require.NoError(t, os.WriteFile(filepath.Join(folder, p.Proof+".json"), append(line, '\n'), 0o600))
	}
}

// launch says how to start a service.
type launch struct {
	wrapper []string   // what the command line is appended to: strace -f -o file
	program string     // "" is the real one
	env     []string   // more variables
	files   []*os.File // from descriptor 3 on
	stderr  *os.File   // takes the log, which the harness then does not read
}

// service is a program that serves.
type service struct {
	public, internal string         // addresses: host and port
	stderr           testkit.Output // without the lines of requests
	cmd              *exec.Cmd
	ended            chan struct{} // closed when the process is gone
}

// serve starts the real program on a store and free ports.
func serve(t testing.TB, store string, args ...string) *service {
	t.Helper()
	return launch{}.serve(t, store, args...)
}

// serve starts a service on a store, and waits until it says that it serves.
func (l launch) serve(t testing.TB, store string, args ...string) *service {
	t.Helper()
	s, err := l.start(t, store, args...)
	require.NoError(t, err)
	return s
}

// start is serve with an error instead of a failure.
func (l launch) start(t testing.TB, store string, args ...string) (*service, error) {
	t.Helper()
	if l.program == "" {
		l.program = program(t)
	}
	line := append(append([]string{}, l.wrapper...), l.program, "serve",
		"--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json", "--store="+store)
	line = append(line, args...)
	s := &service{cmd: exec.Command(line[0], line[1:]...), ended: make(chan struct{})}
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, l.env...)
	s.cmd.ExtraFiles = l.files
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // signals reach what a wrapper started
	if l.stderr != nil {
		return s, s.startUnread(t, l.stderr)
	}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() { s.kill() })
	serving := make(chan struct{})
	go s.follow(stderr, serving)
	select {
	case <-serving:
		return s, nil
	case <-s.ended:
		return nil, fmt.Errorf("it did not start: %s", s.stderr.String())
	case <-time.After(20 * time.Second):
		s.kill()
		return nil, fmt.Errorf("it did not start in 20 s: %s", s.stderr.String())
	}
}

// startUnread starts a service whose log the harness does not read, and waits until
// it is ready.
func (s *service) startUnread(t testing.TB, stderr *os.File) (err error) {
	t.Helper()
	for flag, address := range map[string]*string{"--listen=": &s.public, "--admin-listen=": &s.internal} {
		if *address, err = testkit.FreeAddress(); err != nil {
			return err
		}
		s.cmd.Args = append(s.cmd.Args, flag+*address) // the last one wins
	}
	s.cmd.Stderr = stderr
	if err := s.cmd.Start(); err != nil {
		return err
	}
	t.Cleanup(func() { s.kill() })
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait() // the state tells more
	}()
	require.Eventually(t, func() bool {
		c := &client{address: s.internal}
		defer c.close()
		status, _, err := c.do(http.MethodGet, "/readyz", "")
		return err == nil && status == http.StatusOK
	}, 20*time.Second, 10*time.Millisecond)
	return nil
}

// follow reads the log until the process is gone, and closes serving when the
// service serves.
func (s *service) follow(stderr io.Reader, serving chan<- struct{}) {
	defer close(s.ended)
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if bytes.Contains(lines.Bytes(), []byte(`"msg":"request"`)) {
			continue // there are many
		}
		_, _ = s.stderr.Write(append(lines.Bytes(), '\n')) // a buffer takes all
		var entry struct{ Msg, Public, Internal string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" && s.public == "" {
			s.public, s.internal = address(entry.Public), address(entry.Internal)
			close(serving)
		}
	}
	_, _ = io.Copy(io.Discard, stderr) // when a line was too long
	_ = s.cmd.Wait()                   // the state tells more
}

// address gives the host and port of a base URL.
func address(url string) string {
	return strings.Replace(strings.TrimPrefix(url, "http://"), "localhost", "127.0.0.1", 1)
}

// signal sends a signal to the service, and to its wrapper.
func (s *service) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	require.NoError(t, syscall.Kill(-s.cmd.Process.Pid, signal))
}

// wait gives the exit code, -1 for a death by signal.
func (s *service) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-s.ended:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(45 * time.Second):
		s.kill()
		t.Fatalf("it did not end in 45 s: %s", s.stderr.String())
		return 0
	}
}

// stop ends the service as a supervisor does.
func (s *service) stop(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGTERM)
	require.Zero(t, s.wait(t), s.stderr.String())
}

// kill ends the service as a crash does.
func (s *service) kill() {
	select {
	case <-s.ended: // its number may be another's already
	default:
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // it may end just now
		<-s.ended
	}
}

// run runs a command of the real program to its end, and gives its output and
// exit code.
func run(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return launch{}.run(t, args...)
}

// run is run for another program.
func (l launch) run(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := l.command(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Errorf("%s: %v", args[0], err)
		return "", err.Error(), -1
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// command is a command of a program that is yet to be started.
func (l launch) command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	if l.program == "" {
		l.program = program(t)
	}
	cmd := exec.Command(l.program, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, l.env...)
	return cmd
}

// fetch gives what a path of the internal port answers.
func (s *service) fetch(t testing.TB, path string) string {
	t.Helper()
	c := &client{address: s.internal}
	defer c.close()
	status, text, err := c.do(http.MethodGet, path, "")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, text)
	return text
}

// everyone reads all people through the internal port: dates by name.
func (s *service) everyone(t testing.TB) map[string]string {
	t.Helper()
	return readPeople(t, s.fetch(t, "/export"))
}

// readPeople reads what an export wrote: dates by name.
func readPeople(t testing.TB, jsonl string) map[string]string {
	t.Helper()
	people := map[string]string{}
	for decoder := json.NewDecoder(strings.NewReader(jsonl)); ; {
		var p struct{ Username, DateOfBirth string }
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return people
		}
		require.NoError(t, err)
		people[p.Username] = p.DateOfBirth
	}
}

// letters writes a number as a username can have it: a, b, … z, ba, bb, …
func letters(n int) string {
	if n < 26 {
		return string(rune('a' + n))
	}
	return letters(n/26) + string(rune('a'+n%26))
}

// aDate gives a different date for each number, up to some 40,000.
func aDate(n int) string {
	return time.Date(1900, 1, 1+n%40_000, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
}
