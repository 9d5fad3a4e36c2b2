package people

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"birthday-demo/app/birthday"
)

var jsonlCodec = codec{
	mediaType: "application/jsonl",
	open:      openJSONL,
	layout:    layout{before: `{"username": "`, between: `", "dateOfBirth": "`, after: "\"}\n"},
}

// jsonlReader reads one JSON object a line. A line that is broken or too long
// spoils no other.
type jsonlReader struct {
	source *bufio.Reader
	rules  Rules
	line   int
}

func openJSONL(r *bufio.Reader, rules Rules) func() (birthday.Person, error) {
	return (&jsonlReader{source: r, rules: rules}).next
}

func (j *jsonlReader) next() (birthday.Person, error) {
	for {
		line, err := j.readLine()
		if err != nil {
			return birthday.Person{}, err
		}
		if len(line) > maxEntry {
			return birthday.Person{}, invalidBody(j.line)
		}
		line = bytes.Trim(line, whiteSpace)
		if len(line) == 0 {
			continue
		}
		name, born, ok := members(line)
		if !ok {
			return birthday.Person{}, invalidBody(j.line)
		}
		return j.rules.person(j.line, name, born)
	}
}

// readLine gives a line with its end, which the last may lack, or more than
// maxEntry bytes of a longer one, whose rest is skipped.
func (j *jsonlReader) readLine() ([]byte, error) {
	j.line++
	line, err := j.source.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = j.source.ReadSlice('\n') // overwrites line, of which the length is enough
	}
	switch {
	case err == nil, atEnd(err) && len(line) > 0:
		return line, nil
	case atEnd(err):
		return nil, err
	}
	return nil, fmt.Errorf("line %d: %w", j.line, err)
}

// members gives the two texts of a JSON object, "" for one that is missing or no
// string; ok is false when it is no object or repeats a member. Unmarshal would
// take other spellings of a member's name, and the last of several.
func members(line []byte) (name, born string, ok bool) {
	if line[0] != '{' || !utf8.Valid(line) || !json.Valid(line) {
		return "", "", false
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()    // no number is too large to be ignored
	_, _ = decoder.Token() // {, for the line is valid
	values := make(map[string]any)
	for decoder.More() {
		token, _ := decoder.Token()
		key, _ := token.(string)
		var value any
		if err := decoder.Decode(&value); err != nil {
			return "", "", false
		}
		if _, again := values[key]; again {
			return "", "", false
		}
		values[key] = value
	}
	name, _ = values["username"].(string)
	born, _ = values["dateOfBirth"].(string)
	return name, born, true
}
