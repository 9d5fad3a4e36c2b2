package httpd

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"birthday-demo/app/secretfile"
)

// Tokens is a set of bearer tokens, one a line. Empty lines and lines that start
// with # are passed over. Where they live in a file, Watch reads it again when it
// changes, so that a token can be added, and the old one removed later, without
// a restart. Requests never wait for the file.
type Tokens struct {
	path    string
	file    *secretfile.Reader // nil when there is no file
	log     *slog.Logger
	inForce atomic.Pointer[tokenSet]
}

// tokenSet is what a text of tokens holds.
type tokenSet struct {
	sums [][sha256.Size]byte // of the tokens, which are not kept
	text [sha256.Size]byte   // of the whole, to see a change
	read time.Time
}

const (
	recheck     = time.Second      // how often the file is read
	readTimeout = 10 * time.Second // how long that may take
)

// tokenForm is what may stand in an Authorization header (RFC 6750, section 2.1).
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// LoadTokens reads the tokens in the file at path. A file without any, or with a
// line that is none, is an error, and so is one that is not a regular file. What
// happens to the file later is logged by Watch.
func LoadTokens(path string, log *slog.Logger) (*Tokens, error) {
	t := &Tokens{path: path, file: secretfile.NewReader(path), log: log}
	if err := t.load(context.Background()); err != nil {
		return nil, err
	}
	return t, nil
}

// ParseTokens takes the tokens in text. Errors are as those of LoadTokens, and
// speak of the text by its name.
func ParseTokens(name, text string) (*Tokens, error) {
	set, err := parseTokens(name, text)
	if err != nil {
		return nil, err
	}
	t := &Tokens{}
	t.inForce.Store(set)
	return t, nil
}

// load puts what is in the file in force.
func (t *Tokens) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	text, err := t.file.Read(ctx)
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	set, err := parseTokens(t.path, string(text))
	if err != nil {
		return err
	}
	if before := t.inForce.Swap(set); before != nil && before.text != set.text {
		t.log.Info("read the tokens again", "file", t.path, "tokens", len(set.sums))
	}
	return nil
}

func parseTokens(name, text string) (*tokenSet, error) {
	set := &tokenSet{text: sha256.Sum256([]byte(text)), read: time.Now()}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case tokenForm.MatchString(line):
			set.sums = append(set.sums, sha256.Sum256([]byte(line)))
		default:
			return nil, fmt.Errorf("%s, line %d: a token has only letters, digits and . _ ~ + / - =", name, n+1)
		}
	}
	if len(set.sums) == 0 {
		return nil, fmt.Errorf("%s holds no token: put one on each line", name)
	}
	return set, nil
}

// Watch reads the file again each second, until ctx ends; without a file it does
// nothing. While the file is at fault the tokens of before stay in force: a file that
// is empty for a moment must not lock everybody out. Each fault is logged once.
func (t *Tokens) Watch(ctx context.Context) {
	if t == nil || t.file == nil {
		return
	}
	ticker := time.NewTicker(recheck)
	defer ticker.Stop()
	for last := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		fault := ""
		if err := t.load(ctx); err != nil {
			fault = err.Error()
		}
		switch {
		case ctx.Err() != nil:
			return
		case fault != "" && fault != last:
			t.log.Error("the tokens could not be read again, the old ones stay in force", "file", t.path, "error", fault)
		case fault == "" && last != "":
			t.log.Info("the tokens can be read again", "file", t.path)
		}
		last = fault
	}
}

// LastRead returns when the tokens in force were last read from their file; false
// when they are from none.
func (t *Tokens) LastRead() (time.Time, bool) {
	if t == nil || t.file == nil {
		return time.Time{}, false
	}
	return t.inForce.Load().read, true
}

// has reports whether the token is one of the set. It compares with all of them,
// in a time that does not depend on how much is alike.
func (t *Tokens) has(token string) bool {
	if t == nil {
		return false
	}
	sum, found := sha256.Sum256([]byte(token)), 0
	for _, known := range t.inForce.Load().sums {
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
