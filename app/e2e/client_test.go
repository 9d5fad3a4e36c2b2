package e2e_test

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// client makes requests on a kept connection. It never repeats one by itself,
// unlike net/http's, so that every failure is seen. One goroutine may use it.
type client struct {
	address string
	header  string        // more lines of each request's header, each with its end
	limit   time.Duration // to wait for an answer, instead of patience
	conn    net.Conn
	reader  *bufio.Reader
}

// errNoConnection marks a request that was not sent, since nobody was there.
var errNoConnection = errors.New("no connection")

// patience is how long a client waits for an answer.
const patience = 20 * time.Second

// do sends a request and gives the status and body of its answer.
func (c *client) do(method, path, body string) (status int, text string, err error) {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.address, patience)
		if err != nil {
			return 0, "", fmt.Errorf("%w: %w", errNoConnection, err)
		}
		c.conn, c.reader = conn, bufio.NewReader(conn)
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := c.conn.SetDeadline(time.Now().Add(cmp.Or(c.limit, patience))); err != nil {
		return 0, "", err
	}
	length := ""
	if body != "" {
		length = "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	if _, err := io.WriteString(c.conn, method+" "+path+" HTTP/1.1\r\nHost: localhost\r\n"+c.header+length+"\r\n"+body); err != nil {
		return 0, "", err
	}
	response, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	if err != nil {
		return 0, "", err
	}
	content, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // it was read to its end
	if err != nil {
		return 0, "", err
	}
	if response.Close {
		c.close()
	}
	return response.StatusCode, string(content), nil
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is on its way
		c.conn = nil
	}
}

func (c *client) put(name, date string) (status int, err error) {
	status, _, err = c.do(http.MethodPut, "/hello/"+name, `{"dateOfBirth":"`+date+`"}`)
	return status, err
}

func (c *client) get(name string) (status int, text string, err error) {
	return c.do(http.MethodGet, "/hello/"+name, "")
}

func (c *client) delete(name string) (status int, err error) {
	status, _, err = c.do(http.MethodDelete, "/hello/"+name, "")
	return status, err
}
