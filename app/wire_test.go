package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// exchangeRaw sends bytes as they are and gives the status lines of the answers,
// and whether the connection was left open.
func exchangeRaw(t *testing.T, address, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, request) // the server may close before it has read all
	reader := bufio.NewReader(conn)
	var seen []string
	for {
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		response, err := http.ReadResponse(reader, nil)
		var netErr net.Error
		switch {
		case errors.As(err, &netErr) && netErr.Timeout():
			return strings.Join(append(seen, "open"), " ")
		case err != nil:
			return strings.Join(append(seen, "closed"), " ")
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		kind := "net/http" // it answers by itself, in plain text or with nothing
		if response.Header.Get("X-Request-Id") != "" {
			kind = "ours"
		}
		if response.StatusCode == http.StatusContinue {
			kind = "interim"
		}
		seen = append(seen, fmt.Sprintf("%d %s", response.StatusCode, kind))
	}
}

// TestRawHTTP sends what no client library would. It writes down what net/http
// answers by itself, without our headers and members, and what reaches us; look
// at it again when Go is updated.
func TestRawHTTP(t *testing.T) {
	a := start(t)
	require.Equal(t, "204 ", a.put("ana", "1990-05-17"))
	const get, host, end = "GET /hello/ana HTTP/1.1\r\n", "Host: x\r\n", "\r\n"
	put := func(headers, body string) string { return "PUT /hello/ana HTTP/1.1\r\n" + host + headers + end + body }
	const date = `{"dateOfBirth":"1990-05-17"}` // 28 bytes
	chunked := "Transfer-Encoding: chunked\r\n"
	tests := []struct{ what, request, answer string }{
		// Refused by net/http.
		{"no HTTP at all", "hello\r\n\r\n", "400 net/http closed"},
		{"an empty line before", "\r\n" + get + host + end, "400 net/http closed"},
		{"a bad version", "GET / HTTP/x\r\n" + host + end, "400 net/http closed"},
		{"HTTP/3.7", "GET / HTTP/3.7\r\n" + host + end, "505 net/http closed"},
		{"no Host", get + end, "400 net/http closed"},
		{"two Hosts", get + host + host + end, "400 net/http closed"},
		{"a bad Host", get + "Host: a b\r\n" + end, "400 net/http closed"},
		{"a space before the colon", get + "Host : x\r\n" + end, "400 net/http closed"},
		{"a header without a colon", get + host + "nonsense\r\n" + end, "400 net/http closed"},
		{"NUL in a header", get + host + "X-A: a\x00b\r\n" + end, "400 net/http closed"},
		{"bad percent-encoding", "GET /hello/%zz HTTP/1.1\r\n" + host + end, "400 net/http closed"},
		{"a control character in the path", "GET /hello/a\x01 HTTP/1.1\r\n" + host + end, "400 net/http closed"},
		{"a space in the path", "GET /hello/a b HTTP/1.1\r\n" + host + end, "400 net/http closed"},
		{"two lengths", put("Content-Length: 28\r\nContent-Length: 29\r\n", date), "400 net/http closed"},
		{"a signed length", put("Content-Length: +28\r\n", date), "400 net/http closed"},
		{"a negative length", put("Content-Length: -1\r\n", date), "400 net/http closed"},
		{"an unknown transfer encoding", put("Transfer-Encoding: gzip\r\n", date), "501 net/http closed"},
		{"stacked transfer encodings", put("Transfer-Encoding: gzip, chunked\r\n", date), "501 net/http closed"},
		{"an unknown expectation", put("Expect: cake\r\nContent-Length: 28\r\n", date), "417 net/http closed"},
		{"a header of 64 KiB", get + host + "X-A: " + strings.Repeat("a", 64<<10) + end + end, "431 net/http closed"},
		// Refused by us. A body that was announced and not sent is waited for, 10 s
		// at most, before the connection ends.
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" + host + end, "404 ours open"},
		{"a method in lower case", "get /hello/ana HTTP/1.1\r\n" + host + end, "405 ours open"},
		{"CONNECT", "CONNECT x:1 HTTP/1.1\r\n" + host + end, "404 ours open"},
		{"a broken chunk", put(chunked, "zz\r\n"), "400 ours closed"},
		{"a bare line feed in a chunk's size", put(chunked, "1c;a\n"+date+"\r\n0\r\n\r\n"), "400 ours closed"},
		{"a chunk with 0x", put(chunked, "0x1c\r\n"+date+"\r\n0\r\n\r\n"), "400 ours closed"},
		{"a body announced too long", put("Content-Length: 5000\r\n", ""), "413 ours open"},
		{"one announced too long, with an expectation", put("Expect: 100-continue\r\nContent-Length: 5000\r\n", ""), "413 ours open"},
		{"a body in chunks that is too long", put(chunked, "1400\r\n"+strings.Repeat("x", 0x1400)+"\r\n0\r\n\r\n"), "413 ours closed"},
		// Accepted.
		{"the usual", get + host + end, "200 ours open"},
		{"two at once", get + host + end + get + host + end, "200 ours 200 ours open"},
		{"bare line feeds", "GET /hello/ana HTTP/1.1\nHost: x\n\n", "200 ours open"},
		{"a folded header", get + host + "X-A: a\r\n b\r\n" + end, "200 ours open"},
		{"HTTP/1.0", "GET /hello/ana HTTP/1.0\r\n\r\n", "200 ours closed"},
		{"the absolute form", "GET http://other/hello/ana HTTP/1.1\r\n" + host + end, "200 ours open"},
		{"an expectation", put("Expect: 100-continue\r\nContent-Length: 28\r\n", date), "100 interim 204 ours open"},
		{"chunks", put(chunked, "1c\r\n"+date+"\r\n0\r\n\r\n"), "204 ours open"},
		{"the same length twice", put("Content-Length: 28\r\nContent-Length: 28\r\n", date), "204 ours open"},
		// The encoding wins, as RFC 9112, section 6.1 says; that the connection is
		// to be closed then is not kept. A proxy in front should refuse this.
		{"a length and chunks", put("Content-Length: 5\r\n"+chunked, "1c\r\n"+date+"\r\n0\r\n\r\n"), "204 ours open"},
	}
	address := strings.TrimPrefix(a.public, "http://")
	var all sync.WaitGroup
	for _, tt := range tests {
		all.Go(func() {
			if got := exchangeRaw(t, address, tt.request); got != tt.answer {
				t.Errorf("%s: got %q, want %q", tt.what, got, tt.answer)
			}
		})
	}
	all.Wait()
	require.NoError(t, a.stop())
}

// TestAClientThatHalfClosesGetsItsAnswer ends its sending side, as nc -N does.
func TestAClientThatHalfClosesGetsItsAnswer(t *testing.T) {
	a := start(t)
	requireAnswersToHalfClosed(t, a)
	require.NoError(t, a.stop())
}

// requireAnswersToHalfClosed sends each method often: whether the service notices the
// end before it has its answer is a matter of chance.
func requireAnswersToHalfClosed(t *testing.T, a *app) {
	t.Helper()
	const host, date = "Host: x\r\n", `{"dateOfBirth":"1990-05-17"}`
	for range 100 {
		for _, tt := range []struct{ request, status string }{
			{"PUT /hello/ana HTTP/1.1\r\n" + host + "Content-Length: 28\r\n\r\n" + date, "204 "},
			{"GET /hello/ana HTTP/1.1\r\n" + host + "\r\n", "200 "},
			{"HEAD /hello/ana HTTP/1.1\r\n" + host + "\r\n", "200 "},
			{"DELETE /hello/ana HTTP/1.1\r\n" + host + "\r\n", "204 "},
			{"GET /hello/ana HTTP/1.1\r\n" + host + "\r\n", "404 "},
		} {
			conn, err := net.Dial("tcp", strings.TrimPrefix(a.public, "http://"))
			require.NoError(t, err)
			_, err = io.WriteString(conn, tt.request)
			require.NoError(t, err)
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			text, err := io.ReadAll(conn)
			require.NoError(t, errors.Join(err, conn.Close()))
			require.True(t, strings.HasPrefix(string(text), "HTTP/1.1 "+tt.status), "%s%s", tt.request, text)
		}
	}
}

// TestHeadIsGetWithoutTheBody compares their headers, on the wire.
func TestHeadIsGetWithoutTheBody(t *testing.T) {
	a := start(t)
	a.put("ana", "1990-05-17")
	for _, path := range []string{"/hello/ana", "/hello/bob", "/hello/b1", "/openapi.yaml"} {
		var headers []http.Header
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r, err := http.NewRequest(method, a.public+path, nil)
			require.NoError(t, err)
			r.Header.Set("X-Request-ID", "the-id")
			response, err := client.Do(r)
			require.NoError(t, err)
			body, err := io.ReadAll(response.Body)
			require.NoError(t, errors.Join(err, response.Body.Close()))
			require.Equal(t, method == http.MethodGet, len(body) > 0)
			response.Header.Del("Date")
			headers = append(headers, response.Header)
		}
		require.Equal(t, headers[0], headers[1], path)
	}
	require.NoError(t, a.stop())
}

// pipes is a listener in memory, for tests whose time is not the clock's.
type pipes struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// dial gives a connection, and everything that comes from it until its end.
func (p *pipes) dial() (conn net.Conn, received chan string) {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	received = make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(ours)
		received <- string(text)
	}()
	return ours, received
}

// inBubble runs the whole program on a clock of its own. The test gets the
// public port, and a function that stops the program and gives its error.
func inBubble(t *testing.T, test func(t *testing.T, public *pipes, stop func() error), args ...string) {
	t.Helper()
	store := filepath.Join(t.TempDir(), "birthday.db")
	synctest.Test(t, func(t *testing.T) {
		public, internal := newPipes(), newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		w := testWorld(io.Discard, io.Discard, nil, append(args, "--store="+store)...)
		w.listen = func(port, _ string) (net.Listener, error) {
			if port == "public" {
				return public, nil
			}
			return internal, nil
		}
		done := make(chan error, 1)
		go func() { done <- run(ctx, w) }()
		synctest.Wait()
		stop := sync.OnceValue(func() error { cancel(); return <-done })
		test(t, public, stop)
		require.NoError(t, stop())
	})
}

// TestTimeouts holds the contract's times to the second: for the header, for a
// whole request, between two requests.
func TestTimeouts(t *testing.T) {
	tests := []struct {
		what, sent, answer string
		after              time.Duration
	}{
		{"nothing sent", "", "", 5 * time.Second},
		{"a header that does not end", "GET /hello/ana HTTP/1.1\r\nHost: x\r\nX-Slow: ", "", 5 * time.Second},
		{"a path that is not there, and a body that does not end", "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\n{", "HTTP/1.1 404 ", 10 * time.Second},
		{"a body that does not end", "PUT /hello/ana HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\n{", "HTTP/1.1 400 ", 10 * time.Second},
		{"a connection kept and not used", "GET /hello/ana HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 ", 75 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, public *pipes, _ func() error) {
				begin := time.Now()
				conn, received := public.dial()
				_, err := io.WriteString(conn, tt.sent)
				require.NoError(t, err)
				text := <-received
				require.True(t, strings.HasPrefix(text, tt.answer), text)
				require.Equal(t, tt.answer == "", text == "")
				require.InDelta(t, tt.after.Seconds(), time.Since(begin).Seconds(), 0.6) // net/http lingers half a second
				_ = conn.Close()
			})
		})
	}
}

func TestTheDrainDelayIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, public *pipes, stop func() error) {
		begin, stopped := time.Now(), make(chan error, 1)
		go func() { stopped <- stop() }()
		time.Sleep(4900 * time.Millisecond)
		conn, received := public.dial()
		_, err := io.WriteString(conn, "GET /hello/ana HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		require.NoError(t, err)
		require.Contains(t, <-received, "404 Not Found", "it serves on")
		_ = conn.Close()
		require.NoError(t, <-stopped)
		require.InDelta(t, 5, time.Since(begin).Seconds(), 0.2)
	}, "--drain-delay=5s")
}

func TestASilentConnectionDelaysNoStop(t *testing.T) {
	inBubble(t, func(t *testing.T, public *pipes, stop func() error) {
		conn, _ := public.dial()
		time.Sleep(time.Second)
		begin := time.Now()
		require.NoError(t, stop())
		require.Less(t, time.Since(begin), time.Second)
		_ = conn.Close()
	})
}

func TestAStoppingServiceAsksItsClientsToLeave(t *testing.T) {
	inBubble(t, func(t *testing.T, public *pipes, stop func() error) {
		conn, received := public.dial()
		const get = "GET /hello/ana HTTP/1.1\r\nHost: x\r\n\r\n"
		_, err := io.WriteString(conn, get)
		require.NoError(t, err)
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- stop() }()
		time.Sleep(100 * time.Millisecond) // while it lingers
		_, err = io.WriteString(conn, get)
		require.NoError(t, err)
		text := <-received
		require.Equal(t, 2, strings.Count(text, "404 Not Found"))
		require.Equal(t, 1, strings.Count(text, "Connection: close"))
		require.NoError(t, <-stopped)
		_ = conn.Close()
	})
}

// TestNothingTellsWhoOrWhen does everything with canary names and dates, and
// then looks through every byte that the program wrote.
func TestNothingTellsWhoOrWhen(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(tokens, []byte("kanarientoken"), 0o600))
	for _, args := range [][]string{nil, {"--write-tokens-file=" + tokens}, {"--max-in-flight=1", "--rate-limit=1"}, {"--log-format=text"}} {
		a := start(t, args...)
		for _, name := range []string{"kanarienvogel", "kanarienvogel7", "kanarienvogel%2F", "kanarienvogel%ff", "kanarienvogel/x", "Kanarienv%C3%B6gel", strings.Repeat("kanarienvogel", 9)} {
			for _, method := range []string{"PUT", "GET", "HEAD", "DELETE", "POST", "OPTIONS"} {
				url := a.public + "/hello/" + name
				call(method, url, `{"dateOfBirth":"1987-06-05"}`, "Authorization", "Bearer kanarientoken")
				call(method, url, `{"dateOfBirth":"1987-06-05"`, "Authorization", "Bearer kanarientoken-alt")
				call(method, url+"?dateOfBirth=1987-06-05&tz=kanarienzone", "")
				call(method, url+"?dateOfBirth=1987-06-05&dateOfBirth=1987-06-05", "")
				call(method, url, "dateOfBirth=1987-06-05", "Content-Type", form)
			}
		}
		exchangeRaw(t, strings.TrimPrefix(a.public, "http://"), "GET /hello/kanarienvogel%zz HTTP/1.1\r\nHost: x\r\n\r\n")
		exchangeRaw(t, strings.TrimPrefix(a.public, "http://"), "PUT /hello/kanarienvogel?1987-06-05 HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\n{")
		var shown strings.Builder
		for _, path := range []string{"/metrics", "/stats", "/readyz", "/version"} {
			shown.WriteString(a.get(a.internal + path))
		}
		require.NoError(t, a.stop())
		shown.WriteString(a.stderr.String())
		shown.WriteString(a.stdout.String())
		require.Greater(t, shown.Len(), 10_000)
		for _, canary := range []string{"kanarien", "1987-06-05", "19870605", "1987 6 5", "june 5", "v%c3%b6gel", "vögel"} {
			require.False(t, bytes.Contains(bytes.ToLower([]byte(shown.String())), []byte(canary)), "%s is in what the program wrote", canary)
		}
	}
}

const form = "application/x-www-form-urlencoded"
