package api

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"birthday-demo/app/birthday"
)

// member is the name of the birth date, in JSON, forms and queries alike.
const member = "dateOfBirth"

// whiteSpace is what JSON allows between tokens (RFC 8259, section 2).
const whiteSpace = " \t\r\n"

// readDate finds the text of the birth date in a request: in a JSON body, in a
// form, or without a body in the query. It does not say whether it is a date.
func readDate(r *http.Request) (string, error) {
	body, err := io.ReadAll(r.Body)
	switch {
	case err != nil:
		return "", bodyFault("the body could not be read to its end")
	case len(body) == 0:
		return dateInQuery(r.URL.RawQuery)
	case bytes.HasPrefix(bytes.TrimLeft(body, whiteSpace), []byte("{")):
		return dateInJSON(body)
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return "", bodyFault(`the body must be a JSON object like {"dateOfBirth": "1990-05-17"}`)
	}
	return dateInForm(string(body))
}

func dateInQuery(query string) (string, error) {
	values, ok := parameter(query, member)
	if !ok || len(values) != 1 {
		return "", dateFault("dateOfBirth must be given once, like 1990-05-17")
	}
	return values[0], nil
}

func dateInForm(form string) (string, error) {
	values, ok := parameter(form, member)
	switch {
	case !ok:
		return "", bodyFault("the form is not encoded as it should be")
	case len(values) > 1:
		return "", bodyFault("the form has dateOfBirth more than once")
	case len(values) == 0:
		return "", dateFault("the form has no dateOfBirth")
	}
	return values[0], nil
}

// dateInJSON reads one object. The decoder of encoding/json would take other
// spellings of the member's name, and the last of several.
func dateInJSON(body []byte) (string, error) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return "", bodyFault("the body is not one JSON object")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	_, _ = decoder.Token() // {, for the body is valid
	seen := make(map[string]json.RawMessage)
	for decoder.More() {
		key, _ := decoder.Token()
		name, _ := key.(string)
		if _, again := seen[name]; again {
			return "", bodyFault("the JSON object has a member more than once")
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return "", bodyFault("the body is not one JSON object")
		}
		seen[name] = value
	}
	var text *string
	if err := json.Unmarshal(seen[member], &text); err != nil || text == nil {
		return "", dateFault("dateOfBirth must be a string, like \"1990-05-17\"")
	}
	return *text, nil
}

// parameter gives the values of one name in a query or a form. Pairs of other
// names may be as broken as they like; ok is false when one that could be of
// this name is.
func parameter(query, name string) (values []string, ok bool) {
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if key, err := url.QueryUnescape(key); err != nil || key != name {
			continue
		}
		text, err := url.QueryUnescape(value)
		if err != nil {
			return nil, false
		}
		values = append(values, text)
	}
	return values, true
}

func bodyFault(detail string) error {
	return birthday.Fault{Code: birthday.InvalidBody, Detail: detail}
}

func dateFault(detail string) error {
	return birthday.Fault{Code: birthday.InvalidDate, Detail: detail}
}
