package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"birthday-demo/app/testkit"
)

// configured runs the config command, and gives value and source by setting.
func configured(t *testing.T, environ []string, args ...string) (values map[string][2]string, messages string, err error) {
	t.Helper()
	var stdout, stderr testkit.Output
	err = run(t.Context(), testWorld(&stdout, &stderr, environ, append([]string{"config"}, args...)...))
	values = map[string][2]string{}
	for line := range strings.Lines(stdout.String()) {
		name, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		if at := strings.LastIndex(rest, "  "); at >= 0 {
			values[name] = [2]string{strings.TrimSpace(rest[:at]), strings.TrimSpace(rest[at:])}
		} else {
			values[name] = [2]string{"", rest}
		}
	}
	return values, stderr.String(), err
}

func TestWhereSettingsComeFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store")
	require.NoError(t, os.WriteFile(file, []byte("from-a-file.db\n"), 0o600))
	tests := []struct {
		what, setting string
		environ, args []string
		value, source string
	}{
		{"default", "listen", nil, nil, "localhost:8080", "default"},
		{"PORT", "listen", []string{"PORT=99"}, nil, ":99", "PORT"},
		{"a variable beats PORT", "listen", []string{"PORT=99", "BIRTHDAY_LISTEN=:98"}, nil, ":98", "BIRTHDAY_LISTEN"},
		{"a flag beats both", "listen", []string{"PORT=99", "BIRTHDAY_LISTEN=:98"}, []string{"--listen=:97"}, ":97", "flag"},
		{"a secret from a file", "store", []string{"BIRTHDAY_STORE_FILE=" + file}, nil, "from-a-file.db", "BIRTHDAY_STORE_FILE"},
		{"a variable beats the file", "store", []string{"BIRTHDAY_STORE_FILE=" + file, "BIRTHDAY_STORE=x.db"}, nil, "x.db", "BIRTHDAY_STORE"},
		{"a file's content", "write-tokens-file", []string{"BIRTHDAY_WRITE_TOKENS=canary"}, nil, "xxxxx", "BIRTHDAY_WRITE_TOKENS"},
		{"the file beats it", "write-tokens-file", []string{"BIRTHDAY_WRITE_TOKENS=canary", "BIRTHDAY_WRITE_TOKENS_FILE=f"}, nil, "f", "BIRTHDAY_WRITE_TOKENS_FILE"},
		{"a secret as a whole", "sentry-dsn", []string{"SENTRY_DSN=https://canary@sentry.example.com/1"}, nil, "xxxxx", "SENTRY_DSN"},
		{"a truth", "ascii-usernames", []string{"BIRTHDAY_ASCII_USERNAMES=true"}, nil, "true", "BIRTHDAY_ASCII_USERNAMES"},
		{"a time", "drain-delay", []string{"BIRTHDAY_DRAIN_DELAY=5s"}, nil, "5s", "BIRTHDAY_DRAIN_DELAY"},
		{"a list", "trusted-proxies", []string{"BIRTHDAY_TRUSTED_PROXIES=10.0.0.0/8,::1"}, nil, "[10.0.0.0/8,::1]", "BIRTHDAY_TRUSTED_PROXIES"},
		{"an empty value counts", "trusted-proxies", []string{"BIRTHDAY_TRUSTED_PROXIES="}, nil, "[]", "BIRTHDAY_TRUSTED_PROXIES"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			values, _, err := configured(t, tt.environ, tt.args...)
			require.NoError(t, err)
			require.Equal(t, [2]string{tt.value, tt.source}, values[tt.setting])
		})
	}
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	values, _, err := configured(t, []string{"BIRTHDAY_MAX_IN_FLIGHT=many", "BIRTHDAY_STORE_FILE=/no/such/file", "PORT=http"},
		"--admin-listen=x", "--time-zone=Mars/Olympus", "--leap-day=29", "--base-path=/x/", "--trusted-proxies=10.0.0.0/33",
		"--rate-limit=-1", "--drain-delay=-1s", "--log-format=xml", "--log-level=loud")
	require.Equal(t, exitUsage, exitCode(err))
	for _, fault := range []string{
		"BIRTHDAY_MAX_IN_FLIGHT: this is no int", "BIRTHDAY_STORE_FILE: read the setting", "listen (from PORT)", "admin-listen (from flag)",
		"time-zone", "leap-day", "base-path", "trusted-proxies", "rate-limit", "drain-delay", "log-format", "log-level", "(12)",
	} {
		require.ErrorContains(t, err, fault)
	}
	require.Equal(t, "Mars/Olympus", values["time-zone"][0], "config prints them all the same")
}

// TestAFileOfAVariableThatIsAPipe has nobody who writes into it.
func TestAFileOfAVariableThatIsAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	_, _, err := configured(t, []string{"BIRTHDAY_SENTRY_DSN_FILE=" + pipe})
	require.Equal(t, exitUsage, exitCode(err))
	require.ErrorContains(t, err, "BIRTHDAY_SENTRY_DSN_FILE: read the setting: read "+pipe+": it is not a regular file; name one")
}

func TestOtherFaults(t *testing.T) {
	for args, fault := range map[string]string{
		"--listen=localhost:1 --admin-listen=localhost:1":                         "different addresses",
		"--store=postgres:/u:canary@db/people":                                    "neither a file nor a postgres:// URL",
		"--store=password=canary":                                                 "neither a file nor a postgres:// URL",
		"--store=mysql://u:canary@db/people":                                      "neither a file nor a postgres:// URL",
		"--store=postgres://u:canary@db:port/people":                              "store (from flag): cannot parse",
		"--store=postgres://u:canary@db/p?sslmode=maybe":                          "store (from flag): cannot parse",
		"--store=postgres://u:canary@db/p --backup-dir=x":                         "scheduled copies are of a bbolt file",
		"--read-store=postgres://db/p":                                            "a bbolt file has no replicas",
		"--store=postgres://db/p --read-store=postgres://u:canary@db/p?sslmode=x": "read-store (from flag): cannot parse",
		"--store-password-file=x":                                                 "a bbolt file has no password",
		"--app-password=canary":                                                   "name its role",
		"--store=":                                                                "it is empty",
		"--listen=localhost":                                                      "is no address",
		"--listen=:70000":                                                         "is no address",
		"--log-level=info+1":                                                      "none of debug",
		"--time-zone=Local":                                                       "IANA",
		"--base-path=x":                                                           "no path like",
		"--base-path=/../x":                                                       "no path like",
		"--trusted-proxies=all":                                                   "no CIDR",
	} {
		_, _, err := configured(t, nil, strings.Fields(args)...)
		require.Equal(t, exitUsage, exitCode(err), args)
		require.ErrorContains(t, err, fault)
		require.NotContains(t, err.Error(), "canary")
	}
}

func TestSecretsAreMasked(t *testing.T) {
	for url, shown := range map[string]string{
		"postgres://u:canary@db/people":                                "postgres://u:xxxxx@db/people",
		"postgresql://u:canary@one,two:5433/people":                    "postgresql://u:xxxxx@one,two:5433/people",
		"postgres://u@db/people?password=canary&sslmode=require":       "postgres://u@db/people?password=xxxxx&sslmode=require",
		"postgres:///people?host=/run/postgresql&sslpassword=canary":   "postgres:///people?host=%2Frun%2Fpostgresql&sslpassword=xxxxx",
		"postgres://u:canary@db/people?target_session_attrs=no-canary": "",
		"postgres://u:canary%zz@db/people":                             "xxxxx",
		"postgresql://u:canary@[::1/people":                            "xxxxx",
		"host=db password=canary":                                      "xxxxx",
		"host=db password = canary":                                    "xxxxx",
		"postgres:/u:canary@db/people":                                 "xxxxx",
		"postgresql:u:canary@db/people":                                "xxxxx",
		"postgres//u:canary@db/people":                                 "xxxxx",
		"postgres://u@db/people?password=can;canary":                   "xxxxx",
		"mysql://u:canary@x":                                           "mysql://u:xxxxx@x",
	} {
		values, messages, err := configured(t, []string{"BIRTHDAY_STORE=" + url})
		if shown != "" {
			require.Equal(t, shown, values["store"][0])
		}
		require.NotContains(t, strings.ReplaceAll(fmt.Sprint(values, messages, err), "no-canary", ""), "canary", url)
	}
	values, messages, err := configured(t, []string{"BIRTHDAY_APP_USER=u", "BIRTHDAY_APP_PASSWORD=canary"})
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprint(values, messages), "canary")
	var out testkit.Output
	require.NoError(t, run(t.Context(), testWorld(&out, &out, []string{"BIRTHDAY_STORE=postgres://u:canary@db/people"}, "--help")))
	require.NotContains(t, out.String(), "canary")
}

func TestUnknownVariablesAreWarnedOf(t *testing.T) {
	_, messages, err := configured(t, []string{"BIRTHDAY_LISTN=x", "BIRTHDAY_CAKE=x", "BIRTHDAY_TIMEZONE=x", "HOME=/", "BIRTHDAY_LISTEN=:1"})
	require.NoError(t, err)
	require.Equal(t, "warning: BIRTHDAY_CAKE is no setting\n"+
		"warning: BIRTHDAY_LISTN is no setting, did you mean BIRTHDAY_LISTEN?\n"+
		"warning: BIRTHDAY_TIMEZONE is no setting, did you mean BIRTHDAY_TIME_ZONE?\n", messages)

	var out testkit.Output
	err = run(t.Context(), testWorld(&out, &out, []string{"BIRTHDAY_LISTN=x"}, "--leap-day=x"))
	require.Error(t, err)
	require.Contains(t, out.String(), "did you mean BIRTHDAY_LISTEN?", "serve says so too, and before it fails")
}

// TestTheReadmeListsTheSettings compares the README's table with the flags; run
// it with UPDATE_README=1 to write the table.
func TestTheReadmeListsTheSettings(t *testing.T) {
	const readme, begin, end = "../README.md", "<!-- settings -->\n", "<!-- /settings -->"
	text, err := os.ReadFile(readme)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(text), begin)
	_, after, found2 := strings.Cut(rest, end)
	require.True(t, found && found2, "the README has the marks of the table")
	want := before + begin + settingsTable() + end + after
	if os.Getenv("UPDATE_README") != "" {
		require.NoError(t, os.WriteFile(readme, []byte(want), 0o600))
		return
	}
	require.Equal(t, settingsTable(), strings.TrimSuffix(rest, end+after), "run this test with UPDATE_README=1")
}

func settingsTable() string {
	var b strings.Builder
	b.WriteString("\n| flag | variable | default | meaning |\n|---|---|---|---|\n")
	newSettings().flags.VisitAll(func(f *pflag.Flag) {
		_, usage := pflag.UnquoteUsage(f)
		standard := f.DefValue
		switch standard {
		case "", "[]":
			standard = "none"
		default:
			standard = "`" + standard + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", f.Name, strings.Join(variables(f), "`, `"), standard, usage)
	})
	b.WriteString("\n")
	return b.String()
}

func TestUsageErrorsUnwrap(t *testing.T) {
	cause := errors.New("cause")
	require.ErrorIs(t, usageError{cause}, cause)
}
