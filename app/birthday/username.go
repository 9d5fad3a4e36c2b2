package birthday

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxUsername is the longest username, in code points after NFC.
const MaxUsername = 64

// Username is the name of a person, in Unicode's normalization form C. Case is
// kept and distinct. Build one with ParseUsername.
type Username string

// ParseUsername reads a name of 1 to 64 code points, counted after NFC: letters
// (Unicode's general category L) and marks (M), a letter first. Anything else,
// invalid UTF-8 included, gives a Fault with InvalidUsername.
func ParseUsername(text string) (Username, error) {
	if !utf8.ValidString(text) {
		return "", usernameFault
	}
	text = composed(text)
	if n := utf8.RuneCountInString(text); n < 1 || n > MaxUsername {
		return "", usernameFault
	}
	for i, r := range text {
		if !unicode.IsLetter(r) && (i == 0 || !unicode.IsMark(r)) {
			return "", usernameFault
		}
	}
	return Username(text), nil
}

// joiner is what x/text puts into more than 30 marks in a row, so that a text can
// be normalized as a stream (UAX 15, section 13). NFC itself has no such thing.
const joiner = "\u034f"

// composed gives the text in NFC.
func composed(text string) string {
	nfc := norm.NFC.String(text)
	if strings.Contains(nfc, joiner) && !strings.Contains(text, joiner) {
		return strings.ReplaceAll(nfc, joiner, "")
	}
	return nfc
}

// ParseASCIIUsername is ParseUsername narrowed to 1 to 64 of the letters A to Z
// and a to z.
func ParseASCIIUsername(text string) (Username, error) {
	for _, c := range []byte(text) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return "", asciiUsernameFault
		}
	}
	if len(text) < 1 || len(text) > MaxUsername {
		return "", asciiUsernameFault
	}
	return Username(text), nil
}
