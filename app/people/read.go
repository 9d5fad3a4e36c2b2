package people

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"birthday-demo/app/birthday"
)

// Rules says who is valid: the rules of the API on the day called Today.
type Rules struct {
	Today          birthday.Date // birth dates must lie before it
	ASCIIUsernames bool
}

// person makes a person of two texts, or a Refusal of the line. A text that is
// not there is "", which both rules refuse.
func (r Rules) person(line int, name, born string) (birthday.Person, error) {
	parse := birthday.ParseUsername
	if r.ASCIIUsernames {
		parse = birthday.ParseASCIIUsername
	}
	username, nameErr := parse(name)
	date, dateErr := birthday.ParseBirthDate(born, r.Today)
	if nameErr == nil && dateErr == nil {
		return birthday.Person{Username: username, Born: date}, nil
	}
	refusal := Refusal{Line: line}
	if nameErr != nil {
		refusal.Codes = append(refusal.Codes, birthday.InvalidUsername)
	}
	if dateErr != nil {
		refusal.Codes = append(refusal.Codes, birthday.InvalidDate)
	}
	return birthday.Person{}, refusal
}

// Refusal says that a line holds no valid person, and everything that is wrong
// with it. Lines count from 1.
type Refusal struct {
	Line  int             `json:"line"`
	Codes []birthday.Code `json:"codes"`
}

func invalidBody(line int) Refusal {
	return Refusal{Line: line, Codes: []birthday.Code{birthday.InvalidBody}}
}

// Error gives line and codes, like "line 7: INVALID_USERNAME, INVALID_DATE".
func (r Refusal) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "line %d: ", r.Line)
	for i, code := range r.Codes {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString(string(code))
	}
	return text.String()
}

// Warning says what of a text is ignored. It is no fault.
type Warning string

// Error returns the warning.
func (w Warning) Error() string { return string(w) }

// Read gives the people of a text, one after the other, as they stand there; a
// name may come more than once. What is no valid person gives a Refusal, what is
// ignored a Warning, and reading goes on. Any other error is the last thing given:
// the source's own, or one that says where the text cannot be read on. No error
// quotes the text. The stream can be read once; an entry takes up to some 64 KiB of
// memory. A text of nothing, or of blank lines, is nobody in every format.
func Read(r io.Reader, f Format, rules Rules) iter.Seq2[birthday.Person, error] {
	return func(yield func(birthday.Person, error) bool) {
		next, err := open(r, f, rules)
		if err != nil {
			yield(birthday.Person{}, err)
			return
		}
		for {
			p, err := next()
			if atEnd(err) || !yield(p, err) || !goesOn(err) {
				return
			}
		}
	}
}

func open(r io.Reader, f Format, rules Rules) (next func() (birthday.Person, error), err error) {
	c, err := f.codec()
	if err != nil {
		return nil, err
	}
	source := bufio.NewReaderSize(r, maxEntry+1) // a larger one stays as it is
	start, err := source.Peek(len(byteOrderMark))
	if err != nil && !atEnd(err) {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	if string(start) == byteOrderMark {
		_, _ = source.Discard(len(start)) // it is in the buffer
	}
	return c.open(source, rules), nil
}

// atEnd says whether a source has come to its end. An io.EOF in another error is
// the source's trouble, like a connection that broke.
func atEnd(err error) bool {
	return err == io.EOF //nolint:errorlint // see above
}

// goesOn reports whether there may be more to read after err.
func goesOn(err error) bool {
	if err == nil {
		return true
	}
	_, refused := errors.AsType[Refusal](err)
	_, warned := errors.AsType[Warning](err)
	return refused || warned
}

// maxEntry is how many bytes a person may take in a text. A username has 256 at
// most, and a few times as many when it is decomposed or written as escapes.
const maxEntry = 64 << 10

var errTooLong = errors.New("more than 64 KiB for one person")

// lineReader reads a text line by line.
type lineReader struct {
	source *bufio.Reader // of more than maxEntry bytes
	line   int           // of the last that was read
}

// next gives a line with its end, which the last may lack, or more than maxEntry
// bytes of a longer one, whose rest is skipped.
func (l *lineReader) next() ([]byte, error) {
	l.line++
	line, err := l.source.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = l.source.ReadSlice('\n') // overwrites line, of which the length is enough
	}
	switch {
	case err == nil, atEnd(err) && len(line) > 0:
		return line, nil
	case atEnd(err):
		return nil, err
	}
	return nil, fmt.Errorf("line %d: %w", l.line, err)
}

// bounded is a source for readers that would keep all of an entry in memory,
// however long. They set left to maxEntry before each.
type bounded struct {
	source io.Reader
	left   int
	err    error // stays: what comes after it is the middle of something
}

func (b *bounded) Read(p []byte) (n int, err error) {
	if b.err == nil && b.left <= 0 {
		b.err = errTooLong
	}
	if b.err == nil {
		n, b.err = b.source.Read(p)
		b.left -= n
	}
	return n, b.err
}
