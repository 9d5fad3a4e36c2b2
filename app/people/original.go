package people

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"birthday-demo/app/birthday"
)

var originalCodec = codec{
	mediaType: "application/json",
	open:      openOriginal,
	layout:    layout{start: "{", before: "\n  \"", between: `": "`, after: `"`, separator: ",", end: "\n}\n"},
}

// originalReader reads one JSON object whose members are people. It may stand on
// one line, so that JSON which is broken cannot be skipped.
type originalReader struct {
	source  *bounded
	lines   *lineCounter
	decoder *json.Decoder
	rules   Rules
	begun   bool
}

func openOriginal(r *bufio.Reader, rules Rules) func() (birthday.Person, error) {
	source := &bounded{source: r, left: maxEntry}
	lines := &lineCounter{source: source, line: 1}
	decoder := json.NewDecoder(lines)
	decoder.UseNumber() // a number that is too large is a value like others
	return (&originalReader{source: source, lines: lines, decoder: decoder, rules: rules}).next
}

func (o *originalReader) next() (birthday.Person, error) {
	if !o.begun {
		if err := o.expect('{'); err != nil {
			return birthday.Person{}, err
		}
		o.begun = true
	}
	o.source.left = maxEntry
	if !o.decoder.More() {
		return birthday.Person{}, o.end()
	}
	key, err := o.decoder.Token()
	if err != nil {
		return birthday.Person{}, o.fault(err)
	}
	var value any
	if err := o.decoder.Decode(&value); err != nil {
		return birthday.Person{}, o.fault(err)
	}
	name, _ := key.(string)
	born, _ := value.(string)
	return o.rules.person(o.line(), name, born)
}

// expect reads a brace.
func (o *originalReader) expect(brace json.Delim) error {
	token, err := o.decoder.Token()
	if err != nil {
		return o.fault(err)
	}
	if token != brace {
		return fmt.Errorf("line %d: the file is not one JSON object", o.line())
	}
	return nil
}

// end gives io.EOF when the object is all there is.
func (o *originalReader) end() error {
	if err := o.expect('}'); err != nil {
		return err
	}
	_, err := o.decoder.Token()
	if _, ok := errors.AsType[*json.SyntaxError](err); ok || err == nil {
		return fmt.Errorf("line %d: there is more after the JSON object", o.line())
	}
	if atEnd(err) {
		return err
	}
	return o.fault(err)
}

// fault says where the decoder stopped. Its own words would quote the file.
func (o *originalReader) fault(err error) error {
	if atEnd(err) && !o.begun {
		return err // there is nothing at all
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("line %d: the JSON is broken", o.line())
	}
	if atEnd(err) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("line %d: the file ends before its JSON object", o.line())
	}
	return fmt.Errorf("line %d: %w", o.line(), err)
}

func (o *originalReader) line() int { return o.lines.at(o.decoder.InputOffset()) }

// lineCounter tells which line an offset of a source lies on. It keeps what was
// read beyond the last offset asked for, which is what its reader has ahead.
type lineCounter struct {
	source io.Reader
	ahead  bytes.Buffer
	offset int64 // of the start of ahead
	line   int
}

func (l *lineCounter) Read(p []byte) (int, error) {
	n, err := l.source.Read(p)
	l.ahead.Write(p[:n])
	return n, err
}

// at gives the line of an offset, which never lies before one asked for earlier.
func (l *lineCounter) at(offset int64) int {
	l.line += bytes.Count(l.ahead.Next(int(offset-l.offset)), []byte("\n"))
	l.offset = offset
	return l.line
}
