package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"birthday-demo/app/api"
	"birthday-demo/app/birthday"
	"birthday-demo/app/httpd"
	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/storetest"
)

func TestGreeting(t *testing.T) {
	s := newServer(t)
	s.put("ana", "1990-05-17")
	s.put("bob", "1990-05-16")
	tests := []struct {
		what, target, message string
		status                int
	}{
		{"a day ahead", "/hello/ana", "Hello, ana! Your birthday is in 1 day(s)", 200},
		{"the day itself", "/hello/bob", "Hello, bob! Happy birthday!", 200},
		{"a stranger", "/hello/Ana", "Hello, Ana! you are new, please create an account", 404},
		{"in a zone where it is tomorrow", "/hello/ana?tz=Pacific/Kiritimati", "Hello, ana! Happy birthday!", 200},
		{"in a zone where it is tomorrow, after the day", "/hello/bob?tz=Pacific/Kiritimati", "Hello, bob! Your birthday is in 364 day(s)", 200},
		{"in a zone, encoded", "/hello/ana?tz=Europe%2FBerlin", "Hello, ana! Your birthday is in 1 day(s)", 200},
		{"other parameters are nobody's business", "/hello/ana?x=%zz&y", "Hello, ana! Your birthday is in 1 day(s)", 200},
		{"an encoded letter", "/hello/%61na", "Hello, ana! Your birthday is in 1 day(s)", 200},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			a := s.do("GET", tt.target, "")
			require.Equal(t, tt.status, a.status)
			require.Equal(t, tt.message, a.json["message"])
			require.Equal(t, "application/json; charset=utf-8", a.header.Get("Content-Type"))
		})
	}
	body := s.do("GET", "/hello/bob", "").body
	require.Equal(t, `{"message":"Hello, bob! Happy birthday!"}`, body)
}

func TestNamesAreNormalizedAndKeepTheirCase(t *testing.T) {
	s := newServer(t)
	require.Equal(t, 204, s.do("PUT", "/hello/Jose%CC%81", `{"dateOfBirth":"1990-05-17"}`).status)
	composed := s.do("GET", "/hello/Jos%C3%A9", "")
	require.Equal(t, 200, composed.status)
	require.Equal(t, "Hello, José! Your birthday is in 1 day(s)", composed.json["message"])
	require.Equal(t, 404, s.do("GET", "/hello/jos%C3%A9", "").status)
}

func TestPutAgainReplaces(t *testing.T) {
	s := newServer(t)
	s.put("ana", "1990-05-17")
	s.put("ana", "1990-05-18")
	require.Equal(t, "Hello, ana! Your birthday is in 2 day(s)", s.do("GET", "/hello/ana", "").json["message"])
}

func TestDelete(t *testing.T) {
	s := newServer(t)
	s.put("ana", "1990-05-17")
	a := s.do("DELETE", "/hello/ana", "")
	require.Equal(t, 204, a.status)
	require.Empty(t, a.body)
	for _, method := range []string{"GET", "DELETE"} {
		a = s.do(method, "/hello/ana", "")
		require.Equal(t, 404, a.status)
		require.Equal(t, "Hello, ana! you are new, please create an account", a.json["message"])
		require.Empty(t, a.codes())
	}
}

const form = "application/x-www-form-urlencoded"

func TestBirthDatesAreRead(t *testing.T) {
	tests := []struct{ what, query, body, mediaType string }{
		{"JSON", "", `{"dateOfBirth": "1990-05-17"}`, "application/json"},
		{"JSON without a type", "", `{"dateOfBirth":"1990-05-17"}`, ""},
		{"JSON that says it is a form, as curl does", "", `{"dateOfBirth":"1990-05-17"}`, form},
		{"JSON that says it is text", "", `{"dateOfBirth":"1990-05-17"}`, "text/plain"},
		{"JSON with a broken type", "", `{"dateOfBirth":"1990-05-17"}`, ";;"},
		{"JSON behind white space", "", " \r\n\t" + `{"dateOfBirth":"1990-05-17"}` + "\n", ""},
		{"other members are ignored", "", `{"dateOfBirth":"1990-05-17","a":1,"b":{"dateOfBirth":"x","dateOfBirth":2},"c":[{}]}`, ""},
		{"an escaped member name", "", `{"dateOfBirt\u0068":"1990-05-17"}`, ""},
		{"an escaped value", "", `{"dateOfBirth":"1990-05-1\u0037"}`, ""},
		{"a form", "", "dateOfBirth=1990-05-17", form},
		{"a form with a charset", "", "dateOfBirth=1990-05-17", form + "; charset=UTF-8"},
		{"a form with other fields", "", "a=1&dateOfBirth=1990%2D05-17&b", form},
		{"a query", "?dateOfBirth=1990-05-17", "", ""},
		{"a query with a type and no body", "?dateOfBirth=1990-05-17", "", "application/json"},
		{"a body wins over the query", "?dateOfBirth=1980-01-01", `{"dateOfBirth":"1990-05-17"}`, ""},
		{"a form wins over the query", "?dateOfBirth=1980-01-01", "dateOfBirth=1990-05-17", form},
		{"a body beside a query given twice", "?dateOfBirth=1980-01-01&dateOfBirth=1980-01-02", `{"dateOfBirth":"1990-05-17"}`, ""},
	}
	s := newServer(t)
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			s.put("ana", "1980-12-31")
			a := s.do("PUT", "/hello/ana"+tt.query, tt.body, "Content-Type", tt.mediaType)
			require.Equal(t, 204, a.status, a.body)
			require.Empty(t, a.body)
			require.Equal(t, "Hello, ana! Your birthday is in 1 day(s)", s.do("GET", "/hello/ana", "").json["message"])
		})
	}
}

func TestBirthDatesAreRefused(t *testing.T) {
	tests := []struct{ what, query, body, mediaType, codes string }{
		{"nothing at all", "", "", "", "INVALID_DATE"},
		{"an empty query", "?dateOfBirth=", "", "", "INVALID_DATE"},
		{"a query given twice", "?dateOfBirth=1990-05-17&dateOfBirth=1990-05-17", "", "", "INVALID_DATE"},
		{"a query that is badly encoded", "?dateOfBirth=%zz", "", "", "INVALID_DATE"},
		{"a query in another case", "?dateofbirth=1990-05-17", "", "", "INVALID_DATE"},
		{"an empty object", "", "{}", "", "INVALID_DATE"},
		{"null", "", `{"dateOfBirth":null}`, "", "INVALID_DATE"},
		{"a number", "", `{"dateOfBirth":19900517}`, "", "INVALID_DATE"},
		{"a list", "", `{"dateOfBirth":["1990-05-17"]}`, "", "INVALID_DATE"},
		{"a member in another case", "", `{"dateofbirth":"1990-05-17"}`, "", "INVALID_DATE"},
		{"today", "", `{"dateOfBirth":"2026-05-16"}`, "", "INVALID_DATE"},
		{"tomorrow", "", `{"dateOfBirth":"2026-05-17"}`, "", "INVALID_DATE"},
		{"no such day", "", `{"dateOfBirth":"2026-02-29"}`, "", "INVALID_DATE"},
		{"a time", "", `{"dateOfBirth":"1990-05-17T00:00:00Z"}`, "", "INVALID_DATE"},
		{"outer spaces", "", `{"dateOfBirth":" 1990-05-17 "}`, "", "INVALID_DATE"},
		{"a form without the field", "", "a=b", form, "INVALID_DATE"},
		{"a bad date in a form", "", "dateOfBirth=1990-1-1", form, "INVALID_DATE"},
		{"a repeated member", "", `{"dateOfBirth":"1990-05-17","dateOfBirth":"1990-05-17"}`, "", "INVALID_BODY"},
		{"another member repeated", "", `{"dateOfBirth":"1990-05-17","a":1,"a":1}`, "", "INVALID_BODY"},
		{"a member repeated by an escape", "", `{"dateOfBirth":"1990-05-17","dateOfBirt\u0068":"1990-05-17"}`, "", "INVALID_BODY"},
		{"broken JSON", "", `{"dateOfBirth":"1990-05-17"`, "", "INVALID_BODY"},
		{"a comma too many", "", `{"dateOfBirth":"1990-05-17",}`, "", "INVALID_BODY"},
		{"text behind the object", "", `{"dateOfBirth":"1990-05-17"}x`, "", "INVALID_BODY"},
		{"two objects", "", `{"dateOfBirth":"1990-05-17"}{}`, "", "INVALID_BODY"},
		{"single quotes", "", `{'dateOfBirth':'1990-05-17'}`, "", "INVALID_BODY"},
		{"invalid UTF-8", "", "{\"dateOfBirth\":\"1990-05-17\",\"a\":\"\xff\"}", "", "INVALID_BODY"},
		{"a JSON list", "", `[{"dateOfBirth":"1990-05-17"}]`, "application/json", "INVALID_BODY"},
		{"a JSON string", "", `"1990-05-17"`, "application/json", "INVALID_BODY"},
		{"a byte order mark", "", "\ufeff" + `{"dateOfBirth":"1990-05-17"}`, "application/json", "INVALID_BODY"},
		{"white space", "", " ", "application/json", "INVALID_BODY"},
		{"a form without its type", "", "dateOfBirth=1990-05-17", "", "INVALID_BODY"},
		{"a form with another type", "", "dateOfBirth=1990-05-17", "text/plain", "INVALID_BODY"},
		{"a form field given twice", "", "dateOfBirth=1990-05-17&dateOfBirth=1990-05-17", form, "INVALID_BODY"},
		{"a form that is badly encoded", "", "dateOfBirth=%zz", form, "INVALID_BODY"},
		{"a bad body is not replaced by the query", "?dateOfBirth=1990-05-17", "x", "", "INVALID_BODY"},
		{"a bad date in a body neither", "?dateOfBirth=1990-05-17", "{}", "", "INVALID_DATE"},
	}
	s := newServer(t)
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			a := s.do("PUT", "/hello/ana"+tt.query, tt.body, "Content-Type", tt.mediaType)
			require.Equal(t, 400, a.status, a.body)
			require.Equal(t, tt.codes, a.codes())
			require.Equal(t, 404, s.do("GET", "/hello/ana", "").status, "a refused PUT stores nothing")
		})
	}
}

func TestTodayIsTheServicesForBirthDates(t *testing.T) {
	tokyo, err := birthday.NewZones().Parse("Asia/Tokyo")
	require.NoError(t, err)
	s := newServer(t, func(c *api.Config) {
		c.Zone = tokyo
		c.Now = func() time.Time { return time.Date(2026, 5, 16, 15, 0, 0, 0, time.UTC) } // midnight in Tokyo
	})
	s.put("ana", "2026-05-16")
	require.Equal(t, 400, s.do("PUT", "/hello/bob?tz=America/New_York", `{"dateOfBirth":"2026-05-17"}`).status)
	require.Equal(t, "Hello, ana! Your birthday is in 364 day(s)", s.do("GET", "/hello/ana", "").json["message"])
	require.Equal(t, "Hello, ana! Happy birthday!", s.do("GET", "/hello/ana?tz=UTC", "").json["message"])
}

func TestEverythingWrongIsToldAtOnce(t *testing.T) {
	s := newServer(t)
	a := s.do("PUT", "/hello/ana1", `{"dateOfBirth":"x"}`)
	require.Equal(t, 400, a.status)
	require.Equal(t, "INVALID_DATE INVALID_USERNAME", a.codes())
	require.Equal(t, "username must be 1 to 64 letters, like ana; dateOfBirth must be a date before today, like 1990-05-17", a.json["detail"])
	require.Equal(t, a.json["detail"], a.json["error"])
	require.Equal(t, "INVALID_BODY INVALID_USERNAME", s.do("PUT", "/hello/ana1", `x`).codes())
	require.Equal(t, "INVALID_TIMEZONE INVALID_USERNAME", s.do("GET", "/hello/ana1?tz=x", "").codes())
}

func TestNamesAreRefusedOnEveryMethod(t *testing.T) {
	s := newServer(t)
	for _, name := range []string{"ana1", "a%2Fb", "a%00", "%ff", "a%20b", "a.b", "..%2F", "%F0%9F%8E%82", "a%0A", "a+b", strings.Repeat("a", 65), "ana.ics"} {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			a := s.do(method, "/hello/"+name, "")
			require.Equal(t, 400, a.status, "%s %s", method, name)
			require.Contains(t, a.codes(), "INVALID_USERNAME")
		}
	}
}

func TestZonesAreRefused(t *testing.T) {
	s := newServer(t)
	s.put("ana", "1990-05-17")
	for _, query := range []string{"tz=", "tz", "tz=Local", "tz=posix/UTC", "tz=/etc/localtime", "tz=../UTC", "tz=UTC&tz=UTC", "tz=utc", "tz=%zz", "tz=+09:00"} {
		a := s.do("GET", "/hello/ana?"+query, "")
		require.Equal(t, 400, a.status, query)
		require.Equal(t, "INVALID_TIMEZONE", a.codes(), query)
	}
}

func TestASCIIUsernames(t *testing.T) {
	s := newServer(t, func(c *api.Config) { c.ASCIIUsernames = true })
	s.put("ana", "1990-05-17")
	a := s.do("GET", "/hello/Jos%C3%A9", "")
	require.Equal(t, 400, a.status)
	require.Equal(t, "INVALID_USERNAME", a.codes())
}

func TestPathsAreTakenAsTheyCome(t *testing.T) {
	s := newServer(t)
	s.put("x", "1990-05-17")
	for _, path := range []string{"/hello/", "/hello", "/hello/x/", "//hello/x", "/hello//x", "/hello/../x", "/hello/./x", "/x/../hello/x", "/", "/HELLO/x", "/hello/x/y", "/people", "/%68ello/x"} {
		for _, method := range []string{"GET", "PUT", "OPTIONS", "BREW"} {
			a := s.do(method, path, "")
			require.Equal(t, 404, a.status, "%s %s", method, path)
			require.Empty(t, a.header.Get("Location"))
			require.NotContains(t, a.json, "message")
		}
	}
}

func TestBasePath(t *testing.T) {
	s := newServer(t, func(c *api.Config) { c.BasePath = "/x/y" })
	call := func(method, path, body string) int { // the description knows the paths below the base
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w.Code
	}
	require.Equal(t, 204, call("PUT", "/x/y/hello/ana", `{"dateOfBirth":"1990-05-17"}`))
	require.Equal(t, 200, call("GET", "/x/y/hello/ana", ""))
	require.Equal(t, 200, call("GET", "/x/y/openapi.yaml", ""))
	require.Equal(t, 404, call("GET", "/hello/ana", ""))
	require.Equal(t, 404, call("GET", "/x/yhello/ana", ""))
	require.Equal(t, 404, call("GET", "/x/y/x/y/hello/ana", ""))
}

func TestMethods(t *testing.T) {
	s := newServer(t)
	s.put("ana", "1990-05-17")
	const allow = "DELETE, GET, HEAD, OPTIONS, PUT"
	for _, method := range []string{"POST", "PATCH", "TRACE", "CONNECT", "get", "BREW"} {
		a := s.do(method, "/hello/ana", "")
		require.Equal(t, 405, a.status, method)
		require.Equal(t, allow, a.header.Get("Allow"))
	}
	a := s.do("OPTIONS", "/hello/ana", "")
	require.Equal(t, 204, a.status)
	require.Equal(t, allow, a.header.Get("Allow"))
	require.Equal(t, "GET, HEAD, OPTIONS", s.do("OPTIONS", "/openapi.yaml", "").header.Get("Allow"))
	require.Equal(t, 200, s.do("HEAD", "/hello/ana", "").status)
	require.Equal(t, 404, s.do("HEAD", "/hello/bob", "").status)
}

func TestRefusalsHaveTheSameMembersInBothTypes(t *testing.T) {
	s := newServer(t)
	for accept, want := range map[string]string{
		"":                         "application/json; charset=utf-8",
		"*/*":                      "application/json; charset=utf-8",
		"application/json":         "application/json; charset=utf-8",
		"application/problem+json": "application/problem+json",
		"text/html, Application/Problem+JSON;q=0.5": "application/problem+json",
		"application/problem+json;q=0":              "application/json; charset=utf-8",
		"application/problem+json;q=0.000, */*":     "application/json; charset=utf-8",
		";;;, ,":                                    "application/json; charset=utf-8",
	} {
		a := s.do("GET", "/hello/ana1", "", "Accept", accept, "X-Request-ID", "the-id")
		require.Equal(t, want, a.header.Get("Content-Type"), accept)
		require.Equal(t, map[string]any{
			"type": "about:blank", "title": "Bad Request", "status": 400.0,
			"detail":    "username must be 1 to 64 letters, like ana",
			"error":     "username must be 1 to 64 letters, like ana",
			"errors":    map[string]any{"INVALID_USERNAME": "Please supply a username of 1 to 64 letters"},
			"requestId": "the-id",
		}, a.json)
	}
	require.Equal(t, map[string]any{}, s.do("GET", "/nowhere", "").json["errors"], "not null")
}

// TestOrderOfRefusals sends requests with everything wrong, and mends the
// gravest fault each time.
func TestOrderOfRefusals(t *testing.T) {
	write, read := tokens(t, "writer"), tokens(t, "reader")
	s := newServer(t, func(c *api.Config) { c.WriteTokens, c.ReadTokens = write, read })
	large := strings.Repeat("x", 4097)
	const writer, reader = "Bearer writer", "Bearer reader"
	require.Equal(t, 404, s.do("BREW", "/hello/", large).status)
	require.Equal(t, 405, s.do("BREW", "/hello/a1", large).status)
	require.Equal(t, 401, s.do("PUT", "/hello/a1", large).status)
	require.Equal(t, 403, s.do("PUT", "/hello/a1", large, "Authorization", reader).status)
	require.Equal(t, 413, s.do("PUT", "/hello/a1", large, "Authorization", writer).status)
	a := s.do("PUT", "/hello/a1", large[1:], "Authorization", writer)
	require.Equal(t, 400, a.status)
	require.Equal(t, "INVALID_BODY INVALID_USERNAME", a.codes())
}

func TestTokens(t *testing.T) {
	write, read := tokens(t, "writer"), tokens(t, "reader")
	const writer, reader = "Bearer writer", "Bearer reader"
	both := newServer(t, func(c *api.Config) { c.WriteTokens, c.ReadTokens = write, read })
	onlyWrite := newServer(t, func(c *api.Config) { c.WriteTokens = write })
	onlyRead := newServer(t, func(c *api.Config) { c.ReadTokens = read })
	tests := []struct {
		server               *server
		method, token        string
		status, withoutToken int
	}{
		{both, "GET", reader, 404, 401},
		{both, "GET", writer, 404, 401},
		{both, "HEAD", reader, 404, 401},
		{both, "DELETE", writer, 404, 401},
		{both, "DELETE", reader, 403, 401},
		{both, "OPTIONS", "Bearer unknown", 204, 204},
		{onlyWrite, "GET", "Bearer unknown", 404, 404},
		{onlyWrite, "DELETE", writer, 404, 401},
		{onlyWrite, "DELETE", reader, 401, 401},
		{onlyRead, "GET", reader, 404, 401},
		{onlyRead, "GET", writer, 401, 401},
		{onlyRead, "DELETE", "Bearer unknown", 404, 404},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprint(i, " ", tt.method, " ", tt.token), func(t *testing.T) {
			require.Equal(t, tt.status, tt.server.do(tt.method, "/hello/ana", "", "Authorization", tt.token).status)
			a := tt.server.do(tt.method, "/hello/ana", "")
			require.Equal(t, tt.withoutToken, a.status)
			require.Equal(t, a.status == 401, a.header.Get("WWW-Authenticate") == "Bearer")
		})
	}
	require.Equal(t, 200, both.do("GET", "/openapi.yaml", "").status, "the description is no secret")
}

func TestTroubleOfTheStore(t *testing.T) {
	tests := []struct {
		what   string
		err    error
		status int
	}{
		{"away", fmt.Errorf("dial /secret/path: %w", birthday.ErrUnavailable), 503},
		{"too slow", fmt.Errorf("/secret/path: %w", context.DeadlineExceeded), 503},
		{"broken", errors.New("/secret/path is broken"), 500},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			s := newServer(t, func(c *api.Config) { c.Store = storetest.Failing(tt.err) })
			for _, a := range []answer{
				s.do("GET", "/hello/ana", ""),
				s.do("PUT", "/hello/ana", `{"dateOfBirth":"1990-05-17"}`),
				s.do("DELETE", "/hello/ana", ""),
			} {
				require.Equal(t, tt.status, a.status)
				require.NotContains(t, a.body, "secret")
				require.Equal(t, tt.status == 503, a.header.Get("Retry-After") == "1")
			}
		})
	}
}

// hanging is a store that does nothing until its caller gives up.
type hanging struct{ birthday.Store }

func (hanging) Put(ctx context.Context, _ birthday.Person) error {
	<-ctx.Done()
	return ctx.Err()
}

func (hanging) Get(ctx context.Context, _ birthday.Username) (birthday.Person, error) {
	<-ctx.Done()
	return birthday.Person{}, ctx.Err()
}

func (hanging) Delete(ctx context.Context, _ birthday.Username) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestNoRequestWaitsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(c *api.Config) { c.Store = hanging{} })
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			begin := time.Now()
			require.Equal(t, 503, s.do(method, "/hello/ana", `{"dateOfBirth":"1990-05-17"}`).status)
			require.Equal(t, 8*time.Second, time.Since(begin), "while the connection still takes an answer")
		}
	})
}

func TestBodiesAreLimitedOnEveryMethod(t *testing.T) {
	s := newServer(t)
	s.put("ana", "1990-05-17")
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		r := httptest.NewRequest(method, "/hello/ana", io.MultiReader(strings.NewReader(strings.Repeat("x", 4097)))) // not announced
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		require.Equal(t, 413, w.Code, method)
	}
	require.Equal(t, 200, s.do("GET", "/hello/ana", "").status)
}

func TestRefusalsAndStrangersAreCounted(t *testing.T) {
	s := newServer(t)
	s.do("PUT", "/hello/ana1", `{}`)
	s.do("PUT", "/hello/ana", `{}`)
	s.do("GET", "/hello/ana", "")
	s.do("GET", "/nowhere", "")
	require.NoError(t, testutil.GatherAndCompare(s.registry, strings.NewReader(`
# HELP birthday_refusals_total Faults in what clients sent, by code; a request may have several.
# TYPE birthday_refusals_total counter
birthday_refusals_total{code="INVALID_BODY"} 0
birthday_refusals_total{code="INVALID_DATE"} 2
birthday_refusals_total{code="INVALID_TIMEZONE"} 0
birthday_refusals_total{code="INVALID_USERNAME"} 1
# HELP birthday_strangers_total Requests for usernames that nobody has.
# TYPE birthday_strangers_total counter
birthday_strangers_total 1
`), "birthday_refusals_total", "birthday_strangers_total"))
}

func TestOpenAPIIsServed(t *testing.T) {
	a := newServer(t).do("GET", "/openapi.yaml", "")
	require.Equal(t, 200, a.status)
	require.Equal(t, "application/yaml", a.header.Get("Content-Type"))
	require.True(t, strings.HasPrefix(a.body, "openapi: 3.1"))
}

// TestMidnightInTokyo asks a second before midnight and a second later, without
// waiting for either.
func TestMidnightInTokyo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	synctest.Test(t, func(t *testing.T) {
		store, err := bolt.Open(path, bolt.Options{})
		require.NoError(t, err)
		defer func() { _ = store.Close() }()
		tokyo, err := birthday.NewZones().Parse("Asia/Tokyo")
		require.NoError(t, err)
		s := newServer(t, func(c *api.Config) { c.Store, c.Now, c.Zone = store, time.Now, tokyo })
		s.put("ana", "1990-01-02")
		// A bubble starts at midnight UTC on 1 January 2000: nine in the morning there.
		time.Sleep(15*time.Hour - time.Second)
		require.Equal(t, "Hello, ana! Your birthday is in 1 day(s)", s.do("GET", "/hello/ana", "").json["message"])
		require.Equal(t, 400, s.do("PUT", "/hello/ana", `{"dateOfBirth":"2000-01-01"}`).status)
		time.Sleep(time.Second)
		require.Equal(t, "Hello, ana! Happy birthday!", s.do("GET", "/hello/ana", "").json["message"])
		s.put("bob", "2000-01-01")
	})
}

func FuzzPut(f *testing.F) {
	for _, body := range []string{`{"dateOfBirth":"1990-05-17"}`, `{"dateOfBirth":null}`, "dateOfBirth=1990-05-17", " {", "{}{}", `{"a":1,"a":2}`, "\xff"} {
		f.Add("ana", body, "application/json", "dateOfBirth=1990-05-17")
		f.Add("a\u0301", body, form, "")
	}
	s := newServer(f)
	f.Fuzz(func(t *testing.T, name, body, mediaType, query string) {
		r := httptest.NewRequest("PUT", "/hello/x", strings.NewReader(body))
		r.URL = &url.URL{Path: "/hello/" + name, RawPath: "/hello/" + url.PathEscape(name), RawQuery: query}
		r.Header.Set("Content-Type", mediaType)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		require.Contains(t, []int{204, 400, 404, 413}, w.Code)
		if w.Code == http.StatusNoContent {
			r = httptest.NewRequest("GET", "/hello/x", nil)
			r.URL = &url.URL{Path: "/hello/" + name, RawPath: "/hello/" + url.PathEscape(name)}
			w = httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			require.Equal(t, 200, w.Code, "what was kept is found")
		}
	})
}

func BenchmarkGet(b *testing.B) {
	s := newServer(b, func(c *api.Config) {
		c.HTTP = httpd.Config{
			Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), Stats: httpd.NewStats(),
			Metrics: httpd.NewMetrics(prometheus.NewRegistry()), MaxInFlight: 1024,
		}
	})
	s.put("ana", "1990-05-17")
	r := httptest.NewRequest("GET", "/hello/ana", nil)
	b.ReportAllocs()
	for b.Loop() {
		s.handler.ServeHTTP(httptest.NewRecorder(), r)
	}
}
