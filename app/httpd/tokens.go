package httpd

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Tokens is a set of bearer tokens, one a line. Empty lines and lines that start
// with # are passed over. Where they live in a file it is read again when it
// changes, so that a token can be added, and the old one removed later, without
// a restart.
type Tokens struct {
	path string // "" when there is no file
	log  *slog.Logger

	mu      sync.Mutex
	sums    [][sha256.Size]byte // of the tokens, which are not kept
	file    [sha256.Size]byte   // of the whole file, to see a change
	checked time.Time
}

// recheck is how often, at most, the file is read.
const recheck = time.Second

// tokenForm is what may stand in an Authorization header (RFC 6750, section 2.1).
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// LoadTokens reads the tokens in the file at path. A file without any, or with a
// line that is none, is an error. What happens to the file later is logged.
func LoadTokens(path string, log *slog.Logger) (*Tokens, error) {
	t := &Tokens{path: path, log: log}
	if err := t.load(); err != nil {
		return nil, err
	}
	if len(t.sums) == 0 {
		return nil, fmt.Errorf("%s holds no token: put one on each line", path)
	}
	return t, nil
}

// ParseTokens takes the tokens in text. Errors are as those of LoadTokens, and
// speak of the text by its name.
func ParseTokens(name, text string) (*Tokens, error) {
	sums, err := parseTokens(name, text)
	if err != nil {
		return nil, err
	}
	if len(sums) == 0 {
		return nil, fmt.Errorf("%s holds no token: put one on each line", name)
	}
	return &Tokens{sums: sums}, nil
}

func (t *Tokens) load() error {
	text, err := os.ReadFile(t.path)
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	sum := sha256.Sum256(text)
	if sum == t.file {
		return nil
	}
	sums, err := parseTokens(t.path, string(text))
	if err != nil {
		return err
	}
	if t.file != [sha256.Size]byte{} {
		t.log.Info("read the tokens again", "file", t.path, "tokens", len(sums))
	}
	t.sums, t.file = sums, sum
	return nil
}

func parseTokens(name, text string) (sums [][sha256.Size]byte, err error) {
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case tokenForm.MatchString(line):
			sums = append(sums, sha256.Sum256([]byte(line)))
		default:
			return nil, fmt.Errorf("%s, line %d: a token has only letters, digits and . _ ~ + / - =", name, n+1)
		}
	}
	return sums, nil
}

// refresh reads the file again when it was some time ago. A file that cannot be
// read leaves the tokens as they are; one that can counts, even when it is empty
// and so refuses everybody.
func (t *Tokens) refresh() {
	now := time.Now()
	if t.path == "" || now.Sub(t.checked) < recheck {
		return
	}
	t.checked = now
	if err := t.load(); err != nil {
		t.log.Error("the tokens could not be read again, the old ones stay in force", "file", t.path, "error", err)
	}
}

// has says whether the token is one of the set. It compares with all of them,
// in a time that does not depend on how much is alike.
func (t *Tokens) has(token string) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refresh()
	sum, found := sha256.Sum256([]byte(token)), 0
	for _, known := range t.sums {
		found |= subtle.ConstantTimeCompare(sum[:], known[:])
	}
	return found == 1
}

// RequireToken lets a request pass to next only with a bearer token of one of
// the accepted sets. A token that only others know is refused with 403, no token
// or an unknown one with 401 (RFC 6750, section 3). A nil set has no tokens.
func RequireToken(next Handler, accepted []*Tokens, others ...*Tokens) Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		token := bearer(r)
		knows := func(t *Tokens) bool { return t.has(token) }
		switch {
		case token == "":
			return &Refusal{Status: http.StatusUnauthorized, Detail: "this needs a bearer token", Challenge: "Bearer"}
		case slices.ContainsFunc(accepted, knows):
			return next(w, r)
		case slices.ContainsFunc(others, knows):
			return &Refusal{Status: http.StatusForbidden, Detail: "this token does not allow that"}
		}
		return &Refusal{Status: http.StatusUnauthorized, Detail: "the bearer token is unknown", Challenge: "Bearer"}
	}
}

// bearer gives the token of the request, or "".
func bearer(r *http.Request) string {
	given := r.Header.Values("Authorization")
	if len(given) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(given[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
