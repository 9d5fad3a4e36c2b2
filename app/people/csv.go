package people

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"

	"birthday-demo/app/birthday"
)

const csvHeader = "username,dateOfBirth"

var csvCodec = codec{
	mediaType: "text/csv; charset=utf-8",
	open:      openCSV,
	layout:    layout{start: csvHeader + "\n", between: ",", after: "\n"},
}

// csvReader reads the records of RFC 4180 below the header. A record that cannot
// be read spoils no other; but one that opens a quote goes on until the next.
type csvReader struct {
	source  *bounded
	records *csv.Reader
	rules   Rules
	line    int // where the last good record starts; 0 before the header
}

func openCSV(r *bufio.Reader, rules Rules) func() (birthday.Person, error) {
	source := &bounded{source: r}
	records := csv.NewReader(source)
	records.FieldsPerRecord = 2
	records.ReuseRecord = true
	return (&csvReader{source: source, records: records, rules: rules}).next
}

func (c *csvReader) next() (birthday.Person, error) {
	if c.line == 0 {
		name, born, err := c.record()
		if atEnd(err) || isRefusal(err) || err == nil && name+","+born != csvHeader {
			err = errors.New("the first line must be " + csvHeader)
		}
		if err != nil {
			return birthday.Person{}, err
		}
	}
	name, born, err := c.record()
	if err != nil {
		return birthday.Person{}, err
	}
	return c.rules.person(c.line, name, born)
}

// record gives the two fields of the next record.
func (c *csvReader) record() (name, born string, err error) {
	c.source.left = maxEntry
	fields, err := c.records.Read()
	if err == nil {
		c.line, _ = c.records.FieldPos(0)
		return fields[0], fields[1], nil
	}
	if fault, ok := errors.AsType[*csv.ParseError](err); ok {
		return "", "", invalidBody(fault.StartLine)
	}
	if atEnd(err) {
		return "", "", err
	}
	return "", "", fmt.Errorf("after line %d: %w", c.line, err)
}
