// Package people reads and writes many people as text: JSON lines, CSV, and the
// file of the original service. Each is a stream, so that a file may be larger
// than the memory. What is wrong in a file is told by line and code, never by
// the value, for the values are personal. The package opens no file and fills no
// store.
package people

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"strings"

	"birthday-demo/app/birthday"
)

// Format names a form of text that people are read from and written to.
type Format string

// The formats.
const (
	JSONL    Format = "jsonl"    // {"username": "ana", "dateOfBirth": "1990-05-17"}, one a line
	CSV      Format = "csv"      // ana,1990-05-17 below a header like username,dateOfBirth
	Original Format = "original" // {"ana": "1990-05-17", …}, the file of the original service
)

// ParseFormat gives the format of that name, or an error that says which there
// are.
func ParseFormat(text string) (Format, error) {
	if _, err := Format(text).codec(); err != nil {
		return "", err
	}
	return Format(text), nil
}

// MediaType is what HTTP calls the format; "" when there is no such format.
func (f Format) MediaType() string {
	c, _ := f.codec()
	return c.mediaType
}

// codec is all that a format consists of.
type codec struct {
	mediaType string
	// open gives a function that reads person after person. Its errors are
	// those of Read, and io.EOF after the last person.
	open   func(r *bufio.Reader, rules Rules) func() (birthday.Person, error)
	layout layout
}

func (f Format) codec() (codec, error) {
	switch f {
	case JSONL:
		return jsonlCodec, nil
	case CSV:
		return csvCodec, nil
	case Original:
		return originalCodec, nil
	}
	return codec{}, fmt.Errorf("unknown format %q: want jsonl, csv or original", string(f))
}

const (
	byteOrderMark = "\ufeff"
	whiteSpace    = " \t\r\n" // what JSON allows between tokens (RFC 8259, section 2)
)

// Detect tells the format of a file by the extension of its name, then by its
// first line, for which head is the beginning of the file. A .json file is the
// original service's unless it has a person on its first line, or something that
// is no object. Where there is nothing, any format would do. The error says how to
// name a format instead.
func Detect(name string, head []byte) (Format, error) {
	extension := strings.ToLower(filepath.Ext(name))
	switch extension {
	case ".jsonl", ".ndjson":
		return JSONL, nil
	case ".csv":
		return CSV, nil
	}
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte(byteOrderMark)), whiteSpace)
	first, _, _ := bytes.Cut(head, []byte("\n"))
	first = bytes.TrimRight(first, whiteSpace)
	_, isHeader := parseHeader(first)
	switch {
	case isHeader, isSeparatorHint(first):
		return CSV, nil
	case isPerson(first):
		return JSONL, nil
	case bytes.HasPrefix(first, []byte("{")), extension == ".json" && len(first) == 0:
		return Original, nil
	case len(first) == 0:
		return JSONL, nil
	}
	return "", errors.New("neither the name nor the first line tells the format: name jsonl, csv or original with --format")
}

// isPerson says whether a line is a JSON object with a username.
func isPerson(line []byte) bool {
	var members map[string]json.RawMessage
	err := json.Unmarshal(line, &members)
	_, found := members["username"]
	return err == nil && found
}

// layout is the text around usernames and dates. Nothing is ever escaped: a
// username has only letters and marks, a date only digits and hyphens, and
// neither JSON nor CSV gives those a meaning.
type layout struct{ start, before, between, after, separator, end string }

func (l layout) append(text []byte, p birthday.Person) []byte {
	text = append(append(text, l.before...), p.Username...)
	text = append(append(text, l.between...), p.Born.String()...)
	return append(text, l.after...)
}

const writeSize = 64 << 10 // bytes that Write collects before it writes them

// Write writes everyone of a stream and counts them. It ends at the first error,
// the stream's or the writer's; what is written then is not whole. People with the
// zero Date are left out: a *birthday.LeftOutError tells of them after all others
// are written.
func Write(w io.Writer, f Format, people iter.Seq2[birthday.Person, error]) (n int, err error) {
	c, err := f.codec()
	if err != nil {
		return 0, err
	}
	text := []byte(c.layout.start)
	flush := func() error {
		if _, err := w.Write(text); err != nil {
			return fmt.Errorf("write people: %w", err)
		}
		text = text[:0]
		return nil
	}
	var leftOut birthday.LeftOutError
	for p, err := range people {
		if err != nil {
			return n, err
		}
		if p.Born == (birthday.Date{}) {
			leftOut.Add(n + leftOut.Count + 1)
			continue
		}
		if n > 0 {
			text = append(text, c.layout.separator...)
		}
		text = c.layout.append(text, p)
		n++
		if len(text) < writeSize {
			continue
		}
		if err := flush(); err != nil {
			return n, err
		}
	}
	text = append(text, c.layout.end...)
	if err := flush(); err != nil {
		return n, err
	}
	if leftOut.Count > 0 {
		return n, &leftOut
	}
	return n, nil
}

const pageSize = 1000 // people that All asks a store for at a time

// All gives everyone in a store in the order of their usernames' bytes, and ends
// with the store's error when there is one. It reads page after page, so that a
// slow consumer holds no transaction open; who is put or deleted meanwhile may
// be among the people or not.
func All(ctx context.Context, store birthday.Store) iter.Seq2[birthday.Person, error] {
	return func(yield func(birthday.Person, error) bool) {
		var last birthday.Username
		for {
			page, err := store.After(ctx, last, pageSize)
			if err != nil {
				yield(birthday.Person{}, fmt.Errorf("read a page of people: %w", err))
				return
			}
			if len(page) == 0 {
				return
			}
			for _, p := range page {
				if !yield(p, nil) {
					return
				}
			}
			last = page[len(page)-1].Username
		}
	}
}
