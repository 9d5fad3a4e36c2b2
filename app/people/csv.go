package people

import (
	"bufio"
	"encoding/csv"
	"errors"
	"io"
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
	rules   Rules
	begun   bool // the header was read
}

func openCSV(r *bufio.Reader, rules Rules) func() (birthday.Person, error) {
	c := &csvReader{lines: lineReader{source: r}, rules: rules}
	c.records = csv.NewReader(c)
	c.records.FieldsPerRecord = 2
	c.records.ReuseRecord = true
	return c.next
}

func (c *csvReader) next() (birthday.Person, error) {
	if !c.begun {
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
	return c.rules.person(c.lines.line, fields[0], fields[1])
}

// header reads the first line. Its error is the end where there is nothing at all.
func (c *csvReader) header() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	c.rest = line
	names, err := c.records.Read()
	if err != nil || len(line) > maxEntry || strings.Join(names, "\n") != "username\ndateOfBirth" {
		return errors.New("the first line must be " + csvHeader)
	}
	c.begun = true
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
