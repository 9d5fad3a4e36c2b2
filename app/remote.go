package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"birthday-demo/app/secretfile"
	"birthday-demo/app/store/bolt"
)

// source says where the people are that a command is about: in a store that is
// stopped, or with a service that runs.
type source struct {
	settings *settings
	admin    string // base URL of the service's internal port; "" is the store itself
}

// define adds the flags to a command.
func (s *source) define(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.admin, "admin", "", "ask the service whose internal port has this `URL`, like http://localhost:8081")
	s.settings.share(cmd, "store", "store-password-file", "admin-tokens-file")
}

// share gives a command some of the settings as flags.
func (s *settings) share(cmd *cobra.Command, names ...string) {
	s.flags.VisitAll(func(f *pflag.Flag) {
		for _, name := range names {
			if f.Name == name {
				cmd.Flags().AddFlag(f)
			}
		}
	})
}

// orAsk adds to the error of a store in use that its service can be asked.
func orAsk(err error) error {
	if errors.Is(err, bolt.ErrLocked) {
		return fmt.Errorf("%w, or ask that service with --admin http://localhost:8081", err)
	}
	return err
}

// ask sends a request to the running service, and gives the body of its answer.
func (s *source) ask(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	response, err := s.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// request sends a request to the running service, with the first of the admin
// tokens if there are any, and gives the answer when it is 200.
func (s *source) request(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	url := strings.TrimSuffix(s.admin, "/") + path
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, usageError{fmt.Errorf("--admin: %w", err)}
	}
	if file := s.settings.AdminTokensFile; file != "" {
		token, err := firstToken(ctx, file)
		if err != nil {
			return nil, err
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	request.Header.Set("Expect", "100-continue") // a refusal comes before the body goes
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the service: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))                           // the status tells enough without it
	why := strings.TrimSuffix(response.Status+": "+strings.TrimSpace(string(text)), ": ") // HEAD has no text
	return nil, fmt.Errorf("%s %s: %s", method, request.URL.Redacted(), why)
}

// firstToken gives the first token of a tokens file.
func firstToken(ctx context.Context, path string) (string, error) {
	text, err := secretfile.NewReader(path).Read(ctx)
	if err != nil {
		return "", fmt.Errorf("admin tokens: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return line, nil
		}
	}
	return "", usageError{fmt.Errorf("%s holds no token", path)}
}
