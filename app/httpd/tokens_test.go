package httpd_test

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/httpd"
)

func tokensFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func loadTokens(t *testing.T, text string) *httpd.Tokens {
	t.Helper()
	tokens, err := httpd.LoadTokens(tokensFile(t, text), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return tokens
}

// withToken gives the status of a request with an Authorization header.
func withToken(h httpd.Handler, authorization ...string) (status int, challenge string) {
	r := get("/things/x")
	r.Header["Authorization"] = authorization
	w := serve(httpd.Config{}, h, r)
	return w.Code, w.Header().Get("WWW-Authenticate")
}

func TestRequireToken(t *testing.T) {
	write := loadTokens(t, "writer-one\n\n# rotated in May\n  writer-two  \n")
	read := loadTokens(t, "reader\r\n")
	h := httpd.RequireToken(fine, []*httpd.Tokens{write, nil}, read, nil)
	tests := []struct {
		what          string
		authorization []string
		status        int
	}{
		{"a token", []string{"Bearer writer-one"}, 200},
		{"another token", []string{"Bearer writer-two"}, 200},
		{"the scheme in another case", []string{"bEARER writer-two"}, 200},
		{"no header", nil, 401},
		{"an unknown token", []string{"Bearer writer"}, 401},
		{"a longer token", []string{"Bearer writer-one1"}, 401},
		{"another case", []string{"Bearer Writer-one"}, 401},
		{"an empty token", []string{"Bearer "}, 401},
		{"no scheme", []string{"writer-one"}, 401},
		{"another scheme", []string{"Basic writer-one"}, 401},
		{"a comment of the file", []string{"Bearer # rotated in May"}, 401},
		{"two headers", []string{"Bearer writer-one", "Bearer writer-one"}, 401},
		{"a token for something else", []string{"Bearer reader"}, 403},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			status, challenge := withToken(h, tt.authorization...)
			require.Equal(t, tt.status, status)
			require.Equal(t, status == http.StatusUnauthorized, challenge == "Bearer")
		})
	}
}

// watched loads the tokens of a file and watches it in a bubble of synctest. It
// returns what changes the file and waits for the next look at it, and whether a
// token is allowed then.
func watched(t *testing.T, path string, log *logBuffer) (tokens *httpd.Tokens, change func(error), allowed func(token string) bool) {
	t.Helper()
	tokens, err := httpd.LoadTokens(path, newLog(log))
	require.NoError(t, err)
	go tokens.Watch(t.Context())
	h := httpd.RequireToken(fine, []*httpd.Tokens{tokens})
	change = func(err error) {
		t.Helper()
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		synctest.Wait() // it does not look just now
	}
	return tokens, change, func(token string) bool {
		status, _ := withToken(h, "Bearer "+token)
		return status == http.StatusOK
	}
}

func TestTokensAreReadAgain(t *testing.T) {
	path := tokensFile(t, "old")
	log := &logBuffer{}
	synctest.Test(t, func(t *testing.T) {
		_, change, allowed := watched(t, path, log)
		require.True(t, allowed("old"))
		change(os.WriteFile(path, []byte("old\nnew-one"), 0o600))
		require.True(t, allowed("old"))
		require.True(t, allowed("new-one"))

		require.NoError(t, os.WriteFile(path+".next", []byte("new-one\nnew-two"), 0o600))
		change(os.Rename(path+".next", path))
		require.False(t, allowed("old"), "a token that is gone from the file is refused")
		require.True(t, allowed("new-two"))
	})
	require.NotContains(t, log.String(), "new-")
	require.Equal(t, 2, strings.Count(log.String(), "read the tokens again"))
}

// TestAFaultOfTheFileKeepsTheTokens has each fault for some time, and then a good file.
func TestAFaultOfTheFileKeepsTheTokens(t *testing.T) {
	for what, tt := range map[string]struct {
		fault func(path string) error
		why   string
	}{
		"it is gone":            {func(string) error { return nil }, "no such file"},
		"it is emptied":         {func(path string) error { return os.WriteFile(path, nil, 0o600) }, "holds no token"},
		"only a comment":        {func(path string) error { return os.WriteFile(path, []byte("# canary\n"), 0o600) }, "holds no token"},
		"a line that is none":   {func(path string) error { return os.WriteFile(path, []byte("the canary"), 0o600) }, "line 1"},
		"a pipe without writer": {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "it is not a regular file"},
		"a folder":              {func(path string) error { return os.Mkdir(path, 0o700) }, "it is not a regular file"},
	} {
		t.Run(what, func(t *testing.T) {
			path := tokensFile(t, "old")
			log := &logBuffer{}
			synctest.Test(t, func(t *testing.T) {
				tokens, change, allowed := watched(t, path, log)
				require.NoError(t, os.Remove(path))
				began := time.Now()
				change(tt.fault(path))
				for range 30 {
					change(nil)
				}
				require.True(t, allowed("old"))
				read, _ := tokens.LastRead()
				require.Equal(t, began, read, "the age of the tokens in force shows that they are not read")
				require.Equal(t, 1, strings.Count(log.String(), `"level":"ERROR"`), "a fault is logged once")
				require.Contains(t, log.String(), tt.why)
				require.NotContains(t, log.String(), "canary")

				require.NoError(t, os.RemoveAll(path))
				change(os.WriteFile(path, []byte("old"), 0o600))
				require.Contains(t, log.String(), "can be read again")
				read, _ = tokens.LastRead()
				require.Less(t, time.Since(read), 2*time.Second)
				change(os.Remove(path))
				require.Equal(t, 2, strings.Count(log.String(), `"level":"ERROR"`), "and again when it comes back")
			})
		})
	}
}

func TestTokensWithoutAFile(t *testing.T) {
	tokens, err := httpd.ParseTokens("X", "one\ntwo")
	require.NoError(t, err)
	for _, set := range []*httpd.Tokens{tokens, nil} {
		set.Watch(t.Context()) // returns at once
		_, fromFile := set.LastRead()
		require.False(t, fromFile)
	}
}

func TestBadTokensFilesAreRefused(t *testing.T) {
	for text, why := range map[string]string{
		"":                 "holds no token",
		"# only this\n\n":  "holds no token",
		"good\nnot good\n": "line 2",
		"ünicode":          "line 1",
	} {
		path := tokensFile(t, text)
		_, err := httpd.LoadTokens(path, nil)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, why)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	_, err := httpd.LoadTokens(pipe, nil)
	require.ErrorContains(t, err, pipe+": it is not a regular file; name one")
	_, err = httpd.LoadTokens("/no/such/file", nil)
	require.ErrorContains(t, err, "/no/such/file")
}
