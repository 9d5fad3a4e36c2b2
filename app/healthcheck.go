package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// probeTimeout bounds one question to the internal port.
const probeTimeout = 3 * time.Second

func healthcheckCommand(w world, s *settings) *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the running service whether it is healthy; for images without a shell",
		Long: "Asks /healthz, or /readyz with --ready, of the service that runs with the same\n" +
			"settings. A platform that restarts what is not healthy should ask without\n" +
			"--ready: no restart mends a full disk.",
		Example: "  app healthcheck --admin-listen :8081",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = s.load(w) // the other settings are no matter of this command
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			answer, err := ask(cmd.Context(), s.AdminListen, path)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintln(w.stdout, answer)
			return nil
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it is ready for requests too")
	cmd.Flags().AddFlag(s.flags.Lookup("admin-listen"))
	return cmd
}

// ask gets a path from the internal port that listens on address, and gives its
// answer when that is 200.
func ask(ctx context.Context, address, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	url := "http://" + dialable(address) + path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("ask the service: %w", err)
	}
	direct := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // and no proxy
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := direct.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask the service (does it run, with this --admin-listen?): %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	answer := strings.TrimSpace(string(body))
	if err != nil || response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s: %s", url, response.Status, answer)
	}
	return answer, nil
}

// dialable is an address to dial for one to listen on: every interface means
// this machine.
func dialable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
