package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/stretchr/testify/require"

	"birthday-demo/app/testkit"
)

func TestAStopThatHangsKeepsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stops closers
		var stopped []string
		hang := make(chan struct{})
		stops.add("stop the first", func(context.Context) error {
			stopped = append(stopped, "the first")
			return nil
		})
		stops.add("stop the second", func(context.Context) error { <-hang; return nil })
		stops.add("stop the third", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(cutOffTime / 2) // it cuts off what is left
			return errors.New("cut off")
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		err := stops.close(ctx)
		require.Equal(t, time.Second+cutOffTime, time.Since(begin))
		require.EqualError(t, err, "stop the third: cut off\nstop the second: it did not end in time\nstop the first: it did not end in time")
		synctest.Wait()
		require.Equal(t, []string{"the first"}, stopped)
		close(hang)
	})
}

// TestASupervisorThatStandsStill has no room in its queue of messages.
func TestASupervisorThatStandsStill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", path)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer func() { _ = socket.Close() }()
	receive := func() string {
		message := make([]byte, 100)
		n, err := socket.Read(message)
		require.NoError(t, err)
		return string(message[:n])
	}
	notifySystemd(daemon.SdNotifyReady)
	require.Equal(t, daemon.SdNotifyReady, receive())

	conn, err := net.Dial("unixgram", path)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	for err == nil {
		require.NoError(t, conn.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
		_, err = conn.Write([]byte("full"))
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	done := make(chan struct{})
	go func() {
		defer close(done)
		notifySystemd(daemon.SdNotifyStopping)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("it waits for the supervisor")
		receive() // lets it end
		<-done
	}
}

// TestALongStartTellsHowFarItIs is told of progress as a store does.
func TestALongStartTellsHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testkit.Output
		var states []string
		p := parts{world: world{notify: func(state string) { states = append(states, state) }}, log: slog.New(slog.NewTextHandler(&log, nil))}
		tell := p.tellProgress()
		tell(10, 200)
		require.Empty(t, log.String(), "most starts are over by now")
		time.Sleep(progressEvery)
		tell(50, 200)
		tell(60, 200)
		require.Equal(t, 1, strings.Count(log.String(), "reading the store"))
		require.Contains(t, log.String(), "percent=25 bytes=200")
		require.Equal(t, []string{extendTimeout, extendTimeout, extendTimeout}, states)
	})
}
