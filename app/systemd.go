package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// inheritSockets takes over the sockets that systemd holds, which are told apart
// by their FileDescriptorName, and gives a function that listens: on the one of
// that name, or on a new one. An inherited socket stays open while the service
// restarts: connections wait in it for the successor.
func inheritSockets() (listen func(port, address string) (net.Listener, error), err error) {
	inherited, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("take over systemd's sockets: %w", err)
	}
	sockets := map[string]net.Listener{}
	for name, listeners := range inherited {
		if name != "public" && name != "internal" || len(listeners) != 1 {
			return nil, fmt.Errorf("systemd passed %d sockets named %q: there may be one with FileDescriptorName=public and one with internal", len(listeners), name)
		}
		sockets[name] = listeners[0]
	}
	return func(port, address string) (net.Listener, error) {
		if socket := sockets[port]; socket != nil {
			return socket, nil
		}
		return net.Listen("tcp", address)
	}, nil
}

// notifyTimeout is how long to wait for room in the queue of a supervisor that stands
// still: neither the start nor the stop depends on it.
const notifyTimeout = 250 * time.Millisecond

// notifySystemd tells systemd a state. Without systemd nobody listens.
// daemon.SdNotify would wait for ever.
func notifySystemd(state string) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return // the service does without
	}
	_ = conn.SetWriteDeadline(time.Now().Add(notifyTimeout)) // a new socket takes one
	_, _ = conn.Write([]byte(state))
	_ = conn.Close()
}

// keepAlive tells the supervisor twice in each watchdog time that the program
// runs, until ctx ends.
func keepAlive(ctx context.Context, notify func(string)) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			notify(daemon.SdNotifyWatchdog)
		case <-ctx.Done():
			return
		}
	}
}
