package people

import (
	"bufio"
	"bytes"
	"encoding/json"
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
	lines lineReader
	rules Rules
}

func openJSONL(r *bufio.Reader, rules Rules) func() (birthday.Person, error) {
	return (&jsonlReader{lines: lineReader{source: r}, rules: rules}).next
}

func (j *jsonlReader) next() (birthday.Person, error) {
	for {
		line, err := j.lines.next()
		if err != nil {
			return birthday.Person{}, err
		}
		if len(line) > maxEntry {
			return birthday.Person{}, invalidBody(j.lines.line)
		}
		line = bytes.Trim(line, whiteSpace)
		if len(line) == 0 {
			continue
		}
		name, born, ok := members(line)
		if !ok {
			return birthday.Person{}, invalidBody(j.lines.line)
		}
		return j.rules.person(j.lines.line, name, born)
	}
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
