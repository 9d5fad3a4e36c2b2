//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"birthday-demo/app/store/bolt"
	"birthday-demo/app/testkit"
)

// buildBinary builds the program once for all tests.
var buildBinary = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "birthday-binary-*") // outlives the test that asks first
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "app")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// removeBinary removes what buildBinary has built.
func removeBinary() {
	if path, err := buildBinary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
}

func builtProgram(t *testing.T) string {
	t.Helper()
	path, err := buildBinary()
	require.NoError(t, err)
	return path
}

// process is the real program.
type process struct {
	app
	cmd    *exec.Cmd
	logged chan struct{} // closed when nothing more comes
}

// spawn starts the program by a command, which serve's arguments are appended
// to, and waits until it is ready.
func spawn(t *testing.T, command []string, args ...string) *process {
	t.Helper()
	line := append(append([]string{}, command...), "serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
	line = append(line, args...)
	p := &process{app: app{t: t}, cmd: exec.Command(line[0], line[1:]...), logged: make(chan struct{})}
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.wait(t)
		}
	})
	serving := make(chan map[string]any, 1)
	go func() {
		defer close(p.logged)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			_, _ = io.WriteString(&p.stderr, lines.Text()+"\n")
			var entry map[string]any
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry["msg"] == "serving" {
				serving <- entry
			}
		}
	}()
	select {
	case entry := <-serving:
		p.public, p.internal = fmt.Sprint(entry["public"]), fmt.Sprint(entry["internal"])
	case <-p.logged:
		t.Fatalf("it did not start: %s", p.stderr.String())
	case <-time.After(20 * time.Second):
		t.Fatal("it did not start in 20 s")
	}
	return p
}

// wait gives the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	<-p.logged
	_ = p.cmd.Wait() // the code says it too
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(signal))
}

func TestSignalsStopCleanly(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := spawn(t, []string{builtProgram(t)}, "--store="+filepath.Join(t.TempDir(), "birthday.db"))
		require.Equal(t, "204 ", p.put("ana", "1990-05-17"))
		p.signal(t, signal)
		require.Zero(t, p.wait(t), p.stderr.String())
		require.Contains(t, p.stderr.String(), `"msg":"stopped"`)
	}
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	p := spawn(t, []string{builtProgram(t)}, "--drain-delay=1h", "--store="+filepath.Join(t.TempDir(), "birthday.db"))
	p.signal(t, syscall.SIGTERM)
	require.Eventually(t, func() bool { return strings.Contains(p.stderr.String(), "stopping") }, 10*time.Second, time.Millisecond)
	time.Sleep(50 * time.Millisecond) // until the signal's own effect is back
	p.signal(t, syscall.SIGTERM)
	p.wait(t)
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.Equal(t, syscall.SIGTERM, status.Signal())
}

func TestAnAcknowledgedPutSurvivesKill(t *testing.T) {
	store := "--store=" + filepath.Join(t.TempDir(), "birthday.db")
	p := spawn(t, []string{builtProgram(t)}, store)
	var writers sync.WaitGroup
	var mu sync.Mutex
	var acknowledged []string
	for n := range 8 {
		writers.Go(func() {
			for i := 0; ; i++ {
				name := strings.Repeat(string(rune('a'+n)), 1+i%64)
				if p.put(name, "1990-05-17") != "204 " {
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, name)
				mu.Unlock()
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	p.signal(t, syscall.SIGKILL)
	writers.Wait()
	p.wait(t)
	p = spawn(t, []string{builtProgram(t)}, store)
	require.NotEmpty(t, acknowledged)
	for _, name := range acknowledged {
		require.Contains(t, p.get(p.public+"/hello/"+name), "200 ", name)
	}
}

// TestAFullDisk limits the size of files, which the system reports as it does a
// full disk, and then lifts the limit.
func TestAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	p := spawn(t, []string{"sh", "-c", `ulimit -S -f 128; exec "$@"`, "sh", builtProgram(t)}, "--store="+path) // 64 KiB
	name := func(n int) string { return strings.Repeat("x", 1+n%60) + string(rune('a'+n/60)) }
	full := -1
	for n := range 1500 {
		if got := p.put(name(n), "1990-05-17"); got != "204 " {
			require.Contains(t, got, "503 ")
			require.NotContains(t, got, "birthday.db", "the answer does not tell about files")
			full = n
			break
		}
	}
	require.Positive(t, full, "the disk became full")
	require.Eventually(t, func() bool { return strings.Contains(p.stderr.String(), "make space on the disk") }, 5*time.Second, time.Millisecond)
	require.NotContains(t, p.stderr.String(), "xxxx", "the log does not tell usernames")
	require.Contains(t, p.get(p.public+"/hello/"+name(0)), "200 ", "reads go on")
	require.Eventually(t, func() bool { return strings.HasPrefix(p.get(p.internal+"/readyz"), "503 not ready") }, 5*time.Second, 10*time.Millisecond)

	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	require.NoError(t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unlimited, nil))
	require.Equal(t, "204 ", p.put(name(full), "1990-05-17"), "writes work again when there is space")
	require.Eventually(t, func() bool { return p.get(p.internal+"/readyz") == "200 ready\n" }, 5*time.Second, 10*time.Millisecond)
	for n := range full + 1 {
		require.Contains(t, p.get(p.public+"/hello/"+name(n)), "200 ")
	}
	p.signal(t, syscall.SIGTERM)
	require.Zero(t, p.wait(t))
	report, err := bolt.Verify(path)
	require.NoError(t, err)
	require.Equal(t, full+1, report.People)
}

// TestAFailedSync lets the system refuse to sync: the process must go, since only
// a fresh look at the file tells what it holds.
func TestAFailedSync(t *testing.T) {
	testkit.Needs(t, "strace", "strace")
	path := filepath.Join(t.TempDir(), "birthday.db")
	p := spawn(t, []string{builtProgram(t)}, "--store="+path)
	require.Equal(t, "204 ", p.put("ana", "1990-05-17"))
	p.signal(t, syscall.SIGTERM)
	require.Zero(t, p.wait(t))

	strace := []string{"strace", "-f", "-qq", "-o", filepath.Join(t.TempDir(), "trace"), "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"}
	p = spawn(t, append(strace, builtProgram(t)), "--store="+path)
	require.Contains(t, p.get(p.public+"/hello/ana"), "200 ")
	require.Contains(t, p.put("bob", "1990-05-17"), "503 ")
	require.Equal(t, 1, p.wait(t))
	require.Contains(t, p.stderr.String(), "the file must be opened afresh")

	p = spawn(t, []string{builtProgram(t)}, "--store="+path)
	require.Contains(t, p.get(p.public+"/hello/ana"), "200 ", "what was acknowledged is there")
}

// TestAFolderThatCannotBeSynced lets the system refuse to sync the names in the
// store's folder. Later syncs may report success and do nothing, so a new store has
// to be made again.
func TestAFolderThatCannotBeSynced(t *testing.T) {
	testkit.Needs(t, "strace", "strace")
	folder := t.TempDir()
	path := filepath.Join(folder, "birthday.db")
	start := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", folder, "-e", "trace=fsync", "-e", "inject=fsync:error=EIO",
			builtProgram(t), "--store="+path, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Equal(t, 1, cmd.ProcessState.ExitCode(), "%s", out)
		require.Contains(t, string(out), path+": make its name durable: sync "+folder+": input/output error")
	}
	start()
	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, files)

	p := spawn(t, []string{builtProgram(t)}, "--store="+path)
	require.Equal(t, "204 ", p.put("ana", "1990-05-17"))
	p.signal(t, syscall.SIGTERM)
	require.Zero(t, p.wait(t))
	start()
	report, err := bolt.Verify(path)
	require.NoError(t, err)
	require.Equal(t, 1, report.People, "a store with people stays")
}

// TestAFolderThatIsNotWritable runs as another user than the folder's.
func TestAFolderThatIsNotWritable(t *testing.T) {
	folder, err := os.MkdirTemp("", "birthday-foreign-*") // t.TempDir is closed to other users
	require.NoError(t, err)
	defer func() { _ = os.RemoveAll(folder) }()
	uid := os.Getuid()
	program := filepath.Join(folder, "app")
	content, err := os.ReadFile(builtProgram(t))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, content, 0o600))
	require.NoError(t, os.Chmod(program, 0o555))
	require.NoError(t, os.Chmod(folder, 0o555))
	path := filepath.Join(folder, "birthday.db")
	cmd := exec.Command(program, "--store="+path, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
	cmd.Dir = "/"
	if uid == 0 { // whom no rights hold back
		uid = 65532
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	}
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, string(out), fmt.Sprintf("cannot write %s as uid %d", path, uid))
	require.Contains(t, string(out), fmt.Sprintf("chown %d %s", uid, folder))
}

func TestVersionSaysWhatItIs(t *testing.T) {
	out, err := exec.Command(builtProgram(t), "--version").Output()
	require.NoError(t, err)
	require.Regexp(t, `^birthday-demo \S+ \(commit \S+, built .+, go1\.\S+\)\n$`, string(out))
	linked := filepath.Join(t.TempDir(), "app")
	build := exec.Command("go", "build", "-o", linked, "-ldflags",
		"-X main.linkedVersion=v1.2.3 -X main.linkedCommit=abc -X main.linkedTime=2026-01-02T03:04:05Z", ".")
	require.NoError(t, build.Run())
	out, err = exec.Command(linked, "--version").Output()
	require.NoError(t, err)
	require.Regexp(t, `^birthday-demo v1\.2\.3 \(commit abc, built 2026-01-02T03:04:05Z, go1\.`, string(out))
}
