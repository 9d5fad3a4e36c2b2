package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"birthday-demo/app/birthday"
)

// storeTimeout is how long a request may wait for the store: less than the
// connection lives, so that the client hears a 503 and not a broken pipe.
const storeTimeout = 8 * time.Second

// message is the answer to a GET.
type message struct {
	Message string `json:"message"`
}

func (s *server) getHello(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := patience(r)
	defer cancel()
	name, nameErr := s.username(r)
	zone, zoneErr := s.zone(r)
	if err := together(nameErr, zoneErr); err != nil {
		return err
	}
	p, err := s.Store.Get(ctx, name)
	if err != nil {
		return orStranger(err, name)
	}
	return reply(w, http.StatusOK, jsonType, message{birthday.Hello(p, s.today(zone), s.LeapDay)})
}

func (s *server) putHello(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := patience(r)
	defer cancel()
	name, nameErr := s.username(r)
	text, dateErr := readDate(r)
	var born birthday.Date
	if dateErr == nil {
		born, dateErr = birthday.ParseBirthDate(text, s.today(s.Zone))
	}
	if err := together(nameErr, dateErr); err != nil {
		return err
	}
	if err := s.Store.Put(ctx, birthday.Person{Username: name, Born: born}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) deleteHello(w http.ResponseWriter, r *http.Request) error {
	name, err := s.username(r)
	if err := together(err); err != nil {
		return err
	}
	ctx, cancel := patience(r)
	defer cancel()
	if err := s.Store.Delete(ctx, name); err != nil {
		return orStranger(err, name)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// patience is the time of a request, from the start of its handler. It does not end
// when the client closes its sending side, which looks like leaving: such a client
// still wants its answer. One that has really left costs no more than that time.
func patience(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), storeTimeout)
}

// username reads the name in the path, which the router hands over encoded.
func (s *server) username(r *http.Request) (birthday.Username, error) {
	text, err := url.PathUnescape(r.PathValue("username"))
	if err != nil {
		return "", fmt.Errorf("unescape a path that net/http let pass: %w", err)
	}
	if s.ASCIIUsernames {
		return birthday.ParseASCIIUsername(text)
	}
	return birthday.ParseUsername(text)
}

// zone reads the parameter tz, or gives the service's own zone without it.
func (s *server) zone(r *http.Request) (*time.Location, error) {
	values, ok := parameter(r.URL.RawQuery, "tz")
	switch {
	case ok && len(values) == 0:
		return s.Zone, nil
	case ok && len(values) == 1:
		return s.zones.Parse(values[0])
	}
	return s.zones.Parse("")
}

// stranger is the error for a username that nobody has. It does not say the
// name: errors may be logged.
type stranger struct{ name birthday.Username }

func (stranger) Error() string { return "nobody has this username" }

func orStranger(err error, name birthday.Username) error {
	if errors.Is(err, birthday.ErrNotFound) {
		return stranger{name}
	}
	return err
}

// together makes one refusal of all faults, or gives the first error that is
// no fault of the client's.
func together(errs ...error) error {
	var faults birthday.Invalid
	for _, err := range errs {
		if err == nil {
			continue
		}
		var fault birthday.Fault
		if !errors.As(err, &fault) {
			return err
		}
		faults = append(faults, fault)
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}

// Values of Content-Type. Nobody changes the slices in place.
var (
	jsonType    = []string{"application/json; charset=utf-8"}
	problemType = []string{"application/problem+json"}
)

// reply writes value as JSON.
func reply(w http.ResponseWriter, status int, mediaType []string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write an answer: %w", err)
	}
	w.Header()["Content-Type"] = mediaType
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client went away: nobody is left to tell
	return nil
}
