package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// process is a server that runs.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

// Start starts a server that was stopped or killed, and waits until it answers.
func (s *Server) Start() error {
	_, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	arguments := []string{
		"-D", s.data(), "-h", host, "-p", port, "-c", "unix_socket_directories=", "-c", "timezone=UTC",
		"-c", "log_min_duration_statement=-1", "-c", "shared_buffers=64MB", "-c", "hot_standby_feedback=on", "-c", "dynamic_shared_memory_type=mmap",
	}
	if s.options.TLS {
		arguments = append(arguments, "-c", "ssl=on")
	}
	for name, value := range s.options.Settings {
		arguments = append(arguments, "-c", name+"="+value)
	}
	cmd, err := program("postgres", arguments...)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := errors.Join(cmd.Start(), log.Close()); err != nil {
		return err
	}
	s.process = &process{cmd, make(chan struct{})}
	go func(p *process) {
		_ = p.cmd.Wait()
		close(p.exited)
	}(s.process)
	return s.waitReady()
}

// waitReady waits until the server answers.
func (s *Server) waitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.process.exited:
			return fmt.Errorf("the server ended: %s", s.Log())
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w: %s", err, s.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop stops the server: it ends its connections and then itself.
func (s *Server) Stop() error {
	if s.process == nil {
		return nil
	}
	_ = s.process.cmd.Process.Signal(syscall.SIGINT) // which is a "fast" shutdown; it may be gone already
	select {
	case <-s.process.exited:
		return nil
	case <-time.After(startTimeout):
		return errors.Join(fmt.Errorf("the server does not stop: %s", s.Log()), s.Kill())
	}
}

// Kill kills the server and all its processes with SIGKILL.
func (s *Server) Kill() error {
	pid := s.process.cmd.Process.Pid
	pids, err := children(pid)
	if err != nil {
		return err
	}
	for _, pid := range append([]int{pid}, pids...) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already
	}
	<-s.process.exited
	for end := time.Now().Add(startTimeout); len(pids) > 0; time.Sleep(time.Millisecond) {
		if pids = slices.DeleteFunc(pids, dead); time.Now().After(end) {
			return fmt.Errorf("processes %v outlive SIGKILL", pids)
		}
	}
	return nil
}

// dead says whether a process has ended; nobody may have asked for its result yet.
func dead(pid int) bool {
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output() //nolint:gosec // a number
	return err != nil || strings.HasPrefix(string(state), "Z")
}

// children gives the processes that a process has started.
func children(pid int) (pids []int, err error) {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil, fmt.Errorf("ps: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		var child, parent int
		if _, err := fmt.Sscan(line, &child, &parent); err == nil && parent == pid {
			pids = append(pids, child)
		}
	}
	return pids, nil
}

// guard is a shell that stops the server and removes its folder as soon as its
// input ends, which is also when our process dies in whatever way.
type guard struct {
	input io.Closer
	cmd   *exec.Cmd
}

func newGuard(folder string) (io.Closer, error) {
	pgctl, err := program("pg_ctl")
	if err != nil {
		return nil, err
	}
	const script = `trap "" INT TERM; cat; "$1" stop -D "$2/data" -m immediate
		segment=$(awk 'NR == 7 {print $2}' "$2/data/postmaster.pid") && ipcrm -m "$segment" # of one that was killed
		rm -rf "$2"`
	cmd := exec.Command("sh", "-c", script, "guard", pgctl.Path, folder) //nolint:gosec // it is for tests
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", pgctl.Env, pgctl.SysProcAttr
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return guard{input, cmd}, cmd.Start()
}

// Close ends the guard, who cleans up.
func (g guard) Close() error {
	err := g.input.Close()
	_ = g.cmd.Wait() // root's temporary folder is not the guard's to change
	return err
}

// attributes has the children of root run as the user for PostgreSQL, and all of
// them in a group of their own: Ctrl-C is for us, who then stop them.
func attributes() (*syscall.SysProcAttr, error) {
	attributes := &syscall.SysProcAttr{Setpgid: true}
	uid, gid, err := servant()
	if uid != 0 {
		attributes.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	}
	return attributes, err
}

// giveAway makes a file the server's when we are root.
func giveAway(path string) error {
	uid, gid, err := servant()
	if err != nil || uid == 0 {
		return err
	}
	return os.Chown(path, int(uid), int(gid))
}

// servant is who runs the server for root, or 0 when we are not root.
func servant() (uid, gid uint32, err error) {
	if os.Getuid() != 0 {
		return 0, 0, nil
	}
	account, err := user.Lookup(owner)
	if err != nil {
		return 0, 0, fmt.Errorf("root cannot run PostgreSQL: %w", err)
	}
	u, err1 := strconv.ParseUint(account.Uid, 10, 32)
	g, err2 := strconv.ParseUint(account.Gid, 10, 32)
	return uint32(u), uint32(g), errors.Join(err1, err2)
}

// programs gives the folder of PostgreSQL's programs. Debian keeps them out of
// the PATH, a folder for each version.
func programs() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		path, err = filepath.EvalSymlinks(path) // the others are where it really is
		return filepath.Dir(path), err
	}
	var found []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		found = append(found, paths...)
	}
	if len(found) == 0 {
		return "", errors.New("there are no programs of PostgreSQL")
	}
	newest := slices.MaxFunc(found, func(a, b string) int { // 9.6 is older than 10
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	})
	return filepath.Dir(newest), nil
}
