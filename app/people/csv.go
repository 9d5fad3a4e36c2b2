package people

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"

	"birthday-demo/app/birthday"
)

const csvHeader = "username,dateOfBirth"

var csvCodec = codec{
	mediaType: "text/csv; charset=utf-8",
	open:      openCSV,
	layout:    layout{start: csvHeader + "\n", between: ",", after: "\n"},
}

// csvReader reads the records of RFC 4180 below the header. A record that cannot
// be read and a line that is too long spoil no other; but a record that opens a
// quote goes on until the next, and ends the reading when that is too long.
//
// It is the source of its own csv.Reader, which would keep all of a record in
// memory, and gives it no line before it asks for one.
type csvReader struct {
	lines   lineReader
	rest    []byte // of the last line
	records *csv.Reader
	rules   Rules
	begun   bool // the header was read
	start   int  // the line where the record starts; 0 before it
	left    int  // how many bytes the record may still have
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
		name, born, err := c.record()
		if isRefusal(err) || err == nil && name+","+born != csvHeader {
			err = errors.New("the first line must be " + csvHeader)
		}
		if err != nil {
			return birthday.Person{}, err // the end, where there is nothing at all
		}
		c.begun = true
	}
	name, born, err := c.record()
	if err != nil {
		return birthday.Person{}, err
	}
	return c.rules.person(c.start, name, born)
}

// record gives the two fields of the next record.
func (c *csvReader) record() (name, born string, err error) {
	c.start, c.left = 0, maxEntry
	fields, err := c.records.Read()
	_, broken := errors.AsType[*csv.ParseError](err)
	switch {
	case c.left < 0 && c.lines.line > c.start:
		return "", "", fmt.Errorf("line %d: %w", c.start, errTooLong)
	case c.left < 0, broken:
		return "", "", invalidBody(c.start)
	case err != nil:
		return "", "", err
	}
	return fields[0], fields[1], nil
}

// Read gives the csv.Reader what is left of a line, or the next one when it asks
// for more. A record that is too long ends there.
func (c *csvReader) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		line, err := c.lines.next()
		if err != nil {
			return 0, err
		}
		if c.start == 0 {
			if string(line) == "\n" || string(line) == "\r\n" { // which starts nothing
				continue
			}
			c.start = c.lines.line
		}
		if c.left -= len(line); c.left < 0 {
			return 0, io.EOF
		}
		c.rest = line
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}
