package people

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"birthday-demo/app/birthday"
)

const csvHeader = "username,dateOfBirth"

var csvCodec = codec{
	mediaType: "text/csv; charset=utf-8",
	open:      openCSV,
	layout:    layout{start: csvHeader + "\n", between: ",", after: "\n"},
}

// csvReader reads the records of RFC 4180 below the header, one a line: neither a
// username nor a date has a line end, so that a stray quote spoils its own line only.
//
// It is the source of its own csv.Reader, and holds one line for it.
type csvReader struct {
	lines   lineReader
	rest    []byte // of the line
	records *csv.Reader
	columns csvColumns // none before the header was read
	rules   Rules
}

func openCSV(r *bufio.Reader, rules Rules) func() (birthday.Person, error) {
	c := &csvReader{lines: lineReader{source: r}, rules: rules}
	c.records = csv.NewReader(c)
	c.records.ReuseRecord = true
	return c.next
}

func (c *csvReader) next() (birthday.Person, error) {
	if c.columns.all == 0 {
		if err := c.header(); err != nil {
			return birthday.Person{}, err
		}
	}
	line, err := c.line()
	if err != nil {
		return birthday.Person{}, err
	}
	if len(line) > maxEntry {
		return birthday.Person{}, invalidBody(c.lines.line)
	}
	c.rest = line
	fields, err := c.records.Read()
	if err != nil {
		return birthday.Person{}, invalidBody(c.lines.line)
	}
	return c.rules.person(c.lines.line, fields[c.columns.username], fields[c.columns.born])
}

// header reads the first line. Its error may be a Warning, or the end where there
// is nothing at all.
func (c *csvReader) header() error {
	line, err := c.line()
	if err == nil && isSeparatorHint(line) {
		line, err = c.line()
	}
	if err != nil {
		return err
	}
	columns, ok := parseHeader(line)
	if !ok || len(line) > maxEntry {
		return errors.New("the first line must be a header like " + csvHeader + ": both names once, separated by comma, semicolon or tab")
	}
	c.columns = columns
	c.records.Comma, c.records.FieldsPerRecord = c.columns.separator, c.columns.all
	if further := c.columns.all - 2; further > 0 {
		return Warning(fmt.Sprintf("columns beside username and dateOfBirth, which are ignored: %d", further))
	}
	return nil
}

// line returns the next line that is not blank, and at the end of the text also not
// a lone CR, which is nothing to a csv.Reader.
func (c *csvReader) line() ([]byte, error) {
	for {
		line, err := c.lines.next()
		switch string(line) {
		case "\n", "\r\n", "\r":
			continue
		}
		return line, err
	}
}

// Read hands the line to the csv.Reader, to which each line is a file.
func (c *csvReader) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// csvColumns says how many columns there are, and which are read.
type csvColumns struct {
	separator           rune
	all, username, born int
}

// parseHeader reports whether a line is a header of CSV, and what it says.
func parseHeader(line []byte) (csvColumns, bool) {
	for _, separator := range ",;\t" {
		header := csv.NewReader(bytes.NewReader(line))
		header.Comma = separator
		names, err := header.Read()
		if err != nil {
			continue
		}
		username, born := onlyIndex(names, "username"), onlyIndex(names, "dateOfBirth")
		if username >= 0 && born >= 0 {
			return csvColumns{separator, len(names), username, born}, true
		}
	}
	return csvColumns{}, false
}

// onlyIndex returns where a name is among the names, in any case; -1 when it is not
// there, or more than once.
func onlyIndex(names []string, name string) int {
	is := func(other string) bool { return strings.EqualFold(other, name) }
	i := slices.IndexFunc(names, is)
	if i >= 0 && slices.ContainsFunc(names[i+1:], is) {
		return -1
	}
	return i
}

// isSeparatorHint reports whether a line is the one that tells Excel the separator,
// above the header.
func isSeparatorHint(line []byte) bool { return bytes.HasPrefix(line, []byte("sep=")) }
