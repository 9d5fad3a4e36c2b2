package birthday

import "strings"

// Code names a kind of fault in what a client sent. Clients branch on it.
type Code string

// The codes, each with one fixed sentence.
const (
	InvalidUsername Code = "INVALID_USERNAME"
	InvalidDate     Code = "INVALID_DATE"
	InvalidTimezone Code = "INVALID_TIMEZONE"
	InvalidBody     Code = "INVALID_BODY"
)

// Sentence explains the code to the client; it is always the same.
func (c Code) Sentence() string {
	switch c {
	case InvalidUsername:
		return "Please supply a username of 1 to 64 letters"
	case InvalidDate:
		return "Please supply 'dateOfBirth' as a valid date in 'YYYY-MM-DD' format, before today"
	case InvalidTimezone:
		return "Please supply 'tz' once, as a name of the IANA time zone data base"
	case InvalidBody:
		return `Please supply the body as one JSON object like {"dateOfBirth": "1990-05-17"}`
	}
	return "Please check what you sent"
}

// Fault is one thing that is wrong with what a client sent. Detail says it for
// this case in half a sentence, and never repeats what was sent.
type Fault struct {
	Code   Code
	Detail string
}

// Error gives the detail.
func (f Fault) Error() string { return f.Detail }

// Invalid is everything that is wrong with a request, found at once.
type Invalid []Fault

// Error joins the details into one sentence.
func (i Invalid) Error() string {
	details := make([]string, len(i))
	for n, f := range i {
		details[n] = f.Detail
	}
	return strings.Join(details, "; ")
}

var (
	dateFault          = Fault{InvalidDate, "dateOfBirth must be a date before today, like 1990-05-17"}
	usernameFault      = Fault{InvalidUsername, "username must be 1 to 64 letters, like ana"}
	asciiUsernameFault = Fault{InvalidUsername, "username must be 1 to 64 of the letters a to z and A to Z, like ana"}
	zoneFault          = Fault{InvalidTimezone, "tz must be a time zone's name, given once, like Europe/Berlin"}
)
