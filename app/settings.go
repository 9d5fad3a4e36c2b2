package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agext/levenshtein"
	"github.com/spf13/pflag"

	"birthday-demo/app/birthday"
	"birthday-demo/app/secretfile"
	"birthday-demo/app/store/postgres"
)

// settings holds every setting once. The flag set is their table: help, the
// variables, the config command and the README are each one walk over it.
type settings struct {
	flags   *pflag.FlagSet
	source  map[string]string // of each value: "flag", a variable's name, or "default"
	content map[string]string // of files, by flag, where a variable holds it instead

	Listen, AdminListen                              string
	Store, StorePasswordFile, ReadStore              string
	AppUser, AppPassword                             string
	TimeZone, LeapDay                                string
	ASCIIUsernames                                   bool
	WriteTokensFile, ReadTokensFile, AdminTokensFile string
	BasePath                                         string
	TrustedProxies                                   []string
	RateLimit, MaxInFlight, MaxConnections           int
	DrainDelay, ShutdownTimeout                      time.Duration
	LogFormat, LogLevel                              string
	BackupDir                                        string
	BackupEvery                                      time.Duration
	BackupKeep                                       int
	Pprof                                            bool
	SentryDSN                                        string
}

// Annotations of a flag.
const (
	secret  = "secret"  // the value is masked, "whole" or its "password", and may come from a file
	also    = "also"    // another variable that sets it
	content = "content" // a variable that holds what is in the file
)

const prefix = "BIRTHDAY_"

// newSettings makes the settings with their defaults.
func newSettings() *settings {
	s := &settings{flags: pflag.NewFlagSet("settings", pflag.ContinueOnError), source: map[string]string{}, content: map[string]string{}}
	f := s.flags
	f.SortFlags = false
	f.StringVar(&s.Listen, "listen", "localhost:8080", "`address` of the public port")
	f.StringVar(&s.AdminListen, "admin-listen", "localhost:8081", "`address` of the internal port: health, readiness, metrics")
	f.StringVar(&s.Store, "store", "birthday.db", "bbolt `file` to keep people in, or postgres:// URL of a database")
	f.StringVar(&s.StorePasswordFile, "store-password-file", "", "`file` with the database's password, read again for each connection")
	f.StringVar(&s.ReadStore, "read-store", "", "postgres:// URL of replicas that GET reads from, which may be behind")
	f.StringVar(&s.AppUser, "app-user", "", "database `role` that `migrate up` lets serve from there")
	f.StringVar(&s.AppPassword, "app-password", "", "`password` that `migrate up` gives that role")
	f.StringVar(&s.TimeZone, "time-zone", "UTC", "IANA `name` of the time zone whose date is today")
	f.StringVar(&s.LeapDay, "leap-day", string(birthday.Mar1), "when those born on 29 February celebrate in common years: mar1 or feb28")
	f.BoolVar(&s.ASCIIUsernames, "ascii-usernames", false, "take only the letters A to Z and a to z in usernames")
	f.StringVar(&s.WriteTokensFile, "write-tokens-file", "", "`file` of bearer tokens, one a line, that PUT and DELETE then need")
	f.StringVar(&s.ReadTokensFile, "read-tokens-file", "", "`file` of bearer tokens of which GET then needs one, or a write token")
	f.StringVar(&s.AdminTokensFile, "admin-tokens-file", "", "`file` of bearer tokens for data and profiles on the internal port")
	f.StringVar(&s.BasePath, "base-path", "", "`path` that all public routes are below, like /birthdays")
	f.StringSliceVar(&s.TrustedProxies, "trusted-proxies", nil, "`CIDRs` of proxies whose X-Forwarded-For is believed")
	f.IntVar(&s.RateLimit, "rate-limit", 0, "requests a second that one client may make; 0 is no limit")
	f.IntVar(&s.MaxInFlight, "max-in-flight", 1024, "requests at work at once; more are refused with 503")
	f.IntVar(&s.MaxConnections, "max-connections", 4096, "connections of the public port at once; more wait")
	f.DurationVar(&s.DrainDelay, "drain-delay", 0, "how long to serve on after SIGTERM, until a balancer looks away")
	f.DurationVar(&s.ShutdownTimeout, "shutdown-timeout", 20*time.Second, "how long requests at work may take to end after that")
	f.StringVar(&s.LogFormat, "log-format", "auto", "text, json, or auto: text on a terminal and json elsewhere")
	f.StringVar(&s.LogLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&s.BackupDir, "backup-dir", "", "`folder` for scheduled copies of the store")
	f.DurationVar(&s.BackupEvery, "backup-every", time.Hour, "how often to make one")
	f.IntVar(&s.BackupKeep, "backup-keep", 24, "how many of them to keep")
	f.BoolVar(&s.Pprof, "pprof", false, "serve Go's profiles on the internal port")
	f.StringVar(&s.SentryDSN, "sentry-dsn", "", "`DSN` of Sentry, which is then told of errors")
	s.annotate("store", secret, "password") // of a database's URL
	s.annotate("read-store", secret, "password")
	s.annotate("app-password", secret, "whole")
	s.annotate("sentry-dsn", secret, "whole")
	s.annotate("sentry-dsn", also, "SENTRY_DSN")
	s.annotate("listen", also, "PORT")
	for _, kind := range []string{"write", "read", "admin"} { // for platforms that hand out secrets as variables
		s.annotate(kind+"-tokens-file", content, prefix+strings.ToUpper(kind)+"_TOKENS")
	}
	return s
}

func (s *settings) annotate(flag, key string, values ...string) {
	if err := s.flags.SetAnnotation(flag, key, values); err != nil {
		panic(err) // the flag is not in the table
	}
}

// variables lists the variables that set a flag, the strongest first.
func variables(f *pflag.Flag) []string {
	name := prefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
	names := []string{name}
	if f.Annotations[secret] != nil {
		names = append(names, name+"_FILE")
	}
	names = append(names, f.Annotations[content]...)
	return append(names, f.Annotations[also]...)
}

// load fills what no flag set from the variables, and checks everything. Its
// error names all faults at once, and no secret.
func (s *settings) load(w world) error {
	var faults []error
	s.flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			s.source[f.Name] = "flag"
			return
		}
		s.source[f.Name] = "default"
		for _, variable := range variables(f) {
			value, found, err := read(w, f, variable)
			switch {
			case err != nil || !found:
			case slices.Contains(f.Annotations[content], variable):
				s.source[f.Name], s.content[f.Name] = variable, value
			default:
				s.source[f.Name] = variable
				err = s.set(f, value)
			}
			if err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", variable, err))
			}
			if found {
				return
			}
		}
	})
	faults = append(faults, s.check()...)
	if len(faults) > 0 {
		return usageError{fmt.Errorf("faults in the settings (%d):\n%w", len(faults), errors.Join(faults...))}
	}
	return nil
}

// secretTimeout is how long the file of a secret may take to be read.
const secretTimeout = 10 * time.Second

// read gives the value that a variable has for a flag.
func read(w world, f *pflag.Flag, variable string) (value string, found bool, err error) {
	value, found = w.env(variable)
	switch {
	case !found:
		return "", false, nil
	case variable == "PORT":
		return ":" + value, true, nil
	case f.Annotations[secret] != nil && strings.HasSuffix(variable, "_FILE"):
		ctx, cancel := context.WithTimeout(context.Background(), secretTimeout)
		defer cancel()
		text, err := secretfile.NewReader(value).Read(ctx)
		if err != nil {
			return "", true, fmt.Errorf("read the setting: %w", err)
		}
		if slices.Contains(f.Annotations[secret], "whole") { // which may end in a space
			return strings.TrimRight(string(text), "\r\n"), true, nil
		}
		return strings.TrimSpace(string(text)), true, nil
	}
	return value, true, nil
}

// set gives a flag its value, as a variable has it: without a trace in Changed,
// which tells flags of the command line apart.
func (s *settings) set(f *pflag.Flag, value string) error {
	if err := f.Value.Set(value); err != nil {
		return fmt.Errorf("this is no %s", f.Value.Type())
	}
	return nil
}

// check gives everything that is wrong with the values.
func (s *settings) check() (faults []error) {
	fault := func(flag, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s (from %s): %s", flag, s.source[flag], fmt.Sprintf(format, args...)))
	}
	s.checkAddresses(fault)
	s.checkNames(fault)
	s.checkNumbers(fault)
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return faults
}

// faultFunc notes what is wrong with a flag's value.
type faultFunc func(flag, format string, args ...any)

func (s *settings) checkAddresses(fault faultFunc) {
	for flag, address := range map[string]string{"listen": s.Listen, "admin-listen": s.AdminListen} {
		_, port, err := net.SplitHostPort(address)
		if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil {
			fault(flag, "%q is no address like localhost:8080 or :8080", address)
		}
	}
	if s.Listen == s.AdminListen && !strings.HasSuffix(s.Listen, ":0") {
		fault("admin-listen", "the two ports need different addresses")
	}
	if s.BasePath != "" && !basePathForm.MatchString(s.BasePath) {
		fault("base-path", "%q is no path like /birthdays", s.BasePath)
	}
	if _, err := s.proxies(); err != nil {
		fault("trusted-proxies", "%v", err)
	}
}

func (s *settings) checkNames(fault faultFunc) {
	s.checkStore(fault)
	for flag, path := range map[string]string{"write-tokens-file": s.WriteTokensFile, "read-tokens-file": s.ReadTokensFile, "admin-tokens-file": s.AdminTokensFile} {
		if path == "" && s.content[flag] == "" && s.source[flag] != "default" { // a variable that should have held something
			fault(flag, "it is empty; name a file, or leave it out")
		}
	}
	if _, err := birthday.NewZones().Parse(s.TimeZone); err != nil {
		fault("time-zone", "%q is no name of the IANA data base, like Europe/Berlin", s.TimeZone)
	}
	if !birthday.LeapDay(s.LeapDay).Known() {
		fault("leap-day", "%q is neither mar1 nor feb28", s.LeapDay)
	}
	if !slices.Contains([]string{"auto", "text", "json"}, s.LogFormat) {
		fault("log-format", "%q is none of auto, text, json", s.LogFormat)
	}
	if _, err := s.level(); err != nil {
		fault("log-level", "%q is none of debug, info, warn, error", s.LogLevel)
	}
}

func (s *settings) checkStore(fault faultFunc) {
	switch {
	case s.Store == "":
		fault("store", "it is empty; name a file, or the postgres:// URL of a database")
	case s.inDatabase():
		for flag, url := range map[string]string{"store": s.Store, "read-store": s.ReadStore} {
			if err := postgres.Check(url); err != nil && url != "" {
				fault(flag, "%v", err)
			}
		}
		if s.BackupDir != "" {
			fault("backup-dir", "scheduled copies are of a bbolt file; have the database make its own, or schedule `backup`")
		}
	case likeDatabase.MatchString(s.Store):
		fault("store", "this is neither a file nor a postgres:// URL")
	case s.StorePasswordFile != "":
		fault("store-password-file", "a bbolt file has no password; name a postgres:// URL with --store, or leave it out")
	case s.ReadStore != "":
		fault("read-store", "a bbolt file has no replicas; name a postgres:// URL with --store, or leave it out")
	}
	if s.AppPassword != "" && s.AppUser == "" {
		fault("app-password", "name its role with --app-user")
	}
}

// likeDatabase is what names a database, if not always rightly: no file is to be
// made of it, and it may have a password.
var likeDatabase = regexp.MustCompile(`(?i)^postgres(ql)?(:|//)|://|password\s*=`)

// inDatabase says whether people are in a PostgreSQL database, not in a file.
func (s *settings) inDatabase() bool {
	return strings.HasPrefix(s.Store, "postgres://") || strings.HasPrefix(s.Store, "postgresql://")
}

func (s *settings) checkNumbers(fault faultFunc) {
	for flag, n := range map[string]int{"rate-limit": s.RateLimit, "max-in-flight": s.MaxInFlight, "max-connections": s.MaxConnections} {
		if n < 0 {
			fault(flag, "%d is below 0", n)
		}
	}
	for flag, d := range map[string]time.Duration{"drain-delay": s.DrainDelay, "shutdown-timeout": s.ShutdownTimeout} {
		if d < 0 {
			fault(flag, "%s is below 0", d)
		}
	}
	if s.BackupEvery < time.Second {
		fault("backup-every", "%s is less than a second", s.BackupEvery)
	}
	if s.BackupKeep < 1 {
		fault("backup-keep", "%d would keep none", s.BackupKeep)
	}
}

// basePathForm is a path of plain segments without a slash at its end.
var basePathForm = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$`)

// proxies reads the CIDRs; a lone address is a network of one.
func (s *settings) proxies() (networks []netip.Prefix, err error) {
	for _, text := range s.TrustedProxies {
		network, err := netip.ParsePrefix(text)
		if address, addrErr := netip.ParseAddr(text); addrErr == nil {
			network, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no CIDR like 10.0.0.0/8", text)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

func (s *settings) level() (level slog.Level, err error) {
	if strings.ContainsAny(s.LogLevel, "+-") { // slog would take info+2
		return level, strconv.ErrSyntax
	}
	return level, level.UnmarshalText([]byte(s.LogLevel))
}

// shown gives a value for people to read: the password of a URL is masked.
func shown(f *pflag.Flag) string {
	value := f.Value.String()
	switch {
	case f.Annotations[secret] == nil:
		return value
	case value != "" && slices.Contains(f.Annotations[secret], "whole"):
		return masked
	}
	if !likeDatabase.MatchString(value) {
		return value // a file
	}
	u, err := url.Parse(value)
	if err != nil || !strings.Contains(value, "://") {
		return masked
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return masked // pgx understands more
	}
	for _, name := range []string{"password", "sslpassword"} {
		if query.Has(name) {
			query.Set(name, masked)
			u.RawQuery = query.Encode()
		}
	}
	return u.Redacted()
}

// masked stands for what nobody should see, as url.URL.Redacted has it.
const masked = "xxxxx"

// unknownVariables warns of variables that look like settings and are none, and
// names the setting that each may be meant for.
func (s *settings) unknownVariables(w world) (warnings []string) {
	var known []string
	s.flags.VisitAll(func(f *pflag.Flag) { known = append(known, variables(f)...) })
	for _, entry := range w.environ {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix) || slices.Contains(known, name) {
			continue
		}
		near := slices.MinFunc(known, func(a, b string) int {
			return levenshtein.Distance(name, a, nil) - levenshtein.Distance(name, b, nil)
		})
		warning := name + " is no setting"
		if levenshtein.Distance(name, near, nil) <= 3 {
			warning += ", did you mean " + near + "?"
		}
		warnings = append(warnings, warning)
	}
	slices.Sort(warnings)
	return warnings
}
