package httpd_test

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
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

func TestTokensAreReadAgain(t *testing.T) {
	path := tokensFile(t, "old")
	log := &logBuffer{}
	synctest.Test(t, func(t *testing.T) {
		tokens, err := httpd.LoadTokens(path, newLog(log))
		require.NoError(t, err)
		h := httpd.RequireToken(fine, []*httpd.Tokens{tokens})
		allowed := func(token string) bool {
			status, _ := withToken(h, "Bearer "+token)
			return status == http.StatusOK
		}
		require.True(t, allowed("old"))
		change := func(what func() error) {
			require.NoError(t, what())
			time.Sleep(2 * time.Second) // until the file is looked at again
		}
		change(func() error { return os.WriteFile(path, []byte("old\nnew-one"), 0o600) })
		require.True(t, allowed("old"))
		require.True(t, allowed("new-one"))

		change(func() error { return os.WriteFile(path+".next", []byte("new-one\nnew-two"), 0o600) })
		change(func() error { return os.Rename(path+".next", path) })
		require.False(t, allowed("old"), "a token that is gone from the file is refused")
		require.True(t, allowed("new-two"))

		change(func() error { return os.Remove(path) })
		require.True(t, allowed("new-two"), "a file that cannot be read changes nothing")
		change(func() error { return os.WriteFile(path, []byte("not a token"), 0o600) })
		require.True(t, allowed("new-two"))
		change(func() error { return os.WriteFile(path, nil, 0o600) })
		require.False(t, allowed("new-two"), "an empty file lets nobody")
	})
	require.NotContains(t, log.String(), "new-")
	require.Contains(t, log.String(), "the old ones stay in force")
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
	_, err := httpd.LoadTokens("/no/such/file", nil)
	require.ErrorContains(t, err, "/no/such/file")
}
