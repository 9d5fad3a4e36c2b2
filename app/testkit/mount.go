package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// Mount is a folder on a file system of its own that can be made to hang, as that of
// a server which is gone does.
type Mount struct {
	Folder string
	server *os.Process // of the file system
}

// NewMount mounts another folder, until the test ends.
func NewMount(t testing.TB) *Mount {
	t.Helper()
	Needs(t, "bindfs", "bindfs")
	source, folder := t.TempDir(), t.TempDir()
	cmd := exec.Command("bindfs", "-f", source, folder) //nolint:gosec // folders of the test
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // a signal, most likely
	}()
	if err := untilMounted(folder, ended); err != nil {
		Missing(t, "root and FUSE, to mount a file system: "+err.Error(), "fuse3")
	}
	m := &Mount{folder, cmd.Process}
	t.Cleanup(func() {
		m.Thaw()
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return m
}

// untilMounted waits until a folder is on another device than its parent.
func untilMounted(folder string, ended <-chan struct{}) error {
	device := func(path string) uint64 {
		var s syscall.Stat_t
		_ = syscall.Stat(path, &s) // 0 is like none
		return s.Dev
	}
	for range 1000 {
		if device(folder) != device(folder+"/..") {
			return nil
		}
		select {
		case <-ended:
			return errors.New("bindfs ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s is not mounted after 10 s", folder)
}

// Freeze has every call in the folder wait.
func (m *Mount) Freeze() { _ = m.server.Signal(syscall.SIGSTOP) }

// Thaw lets them go on.
func (m *Mount) Thaw() { _ = m.server.Signal(syscall.SIGCONT) }

// Slow has each call in the folder take some time, until ctx ends.
func (m *Mount) Slow(ctx context.Context) {
	const still, moving = 90 * time.Millisecond, 10 * time.Millisecond
	defer m.Thaw()
	for ctx.Err() == nil {
		m.Freeze()
		time.Sleep(still)
		m.Thaw()
		time.Sleep(moving)
	}
}
