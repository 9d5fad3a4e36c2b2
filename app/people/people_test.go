package people_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/people"
	"birthday-demo/app/store/storetest"
)

var (
	formats = []people.Format{people.JSONL, people.CSV, people.Original}
	rules   = people.Rules{Today: birthday.Date{Year: 2026, Month: 5, Day: 17}}
)

// collect shows a stream: "ana 1990-05-17" for a person, else the error's text.
func collect(all iter.Seq2[birthday.Person, error]) (lines []string) {
	for p, err := range all {
		if err != nil {
			lines = append(lines, err.Error())
			continue
		}
		lines = append(lines, string(p.Username)+" "+p.Born.String())
	}
	return lines
}

func write(t testing.TB, f people.Format, all []birthday.Person) string {
	t.Helper()
	var text strings.Builder
	n, err := people.Write(&text, f, storetest.Stream(all, nil))
	require.NoError(t, err)
	require.Equal(t, len(all), n)
	return text.String()
}

func TestParseFormat(t *testing.T) {
	mediaTypes := map[string]bool{}
	for _, want := range formats {
		got, err := people.ParseFormat(string(want))
		require.NoError(t, err)
		require.Equal(t, want, got)
		mediaTypes[got.MediaType()] = true
	}
	require.Len(t, mediaTypes, len(formats), "each format has a media type")
	for _, text := range []string{"", "json", "CSV", "csv ", "xml"} {
		_, err := people.ParseFormat(text)
		require.ErrorContains(t, err, "want jsonl, csv or original")
		require.Empty(t, people.Format(text).MediaType())
	}
}

func TestUnknownFormat(t *testing.T) {
	lines := collect(people.Read(strings.NewReader("a\nb\n"), "xml", rules))
	require.Equal(t, []string{`unknown format "xml": want jsonl, csv or original`}, lines)
	_, err := people.Write(io.Discard, "xml", storetest.Stream(nil, nil))
	require.EqualError(t, err, `unknown format "xml": want jsonl, csv or original`)
}

func TestDetect(t *testing.T) {
	const (
		line   = `{"username": "ana", "dateOfBirth": "1990-05-17"}`
		object = `{"ana": "1990-05-17"}`
	)
	tests := []struct {
		what, name, head string
		want             people.Format
	}{
		{"the extension .jsonl", "people.jsonl", object, people.JSONL},
		{"the extension .ndjson", "people.ndjson", "", people.JSONL},
		{"the extension .csv", "people.csv", line, people.CSV},
		{"an extension in capitals", "PEOPLE.CSV", "", people.CSV},
		{"an extension below a folder", "a.csv/people.jsonl", "", people.JSONL},
		{".json with an object", "people.json", object, people.Original},
		{".json with an object on many lines", "people.json", "\n{\n\"ana\":", people.Original},
		{".json with a person on a line", "people.json", line + "\n" + line, people.JSONL},
		{".json with a header of CSV", "people.json", "username,dateOfBirth\n", people.CSV},
		{".json with nothing yet", "people.json", "", people.Original},
		{"a header of CSV", "-", "username,dateOfBirth\nana,", people.CSV},
		{"a header of CSV with BOM and CRLF", "-", "\ufeffusername,dateOfBirth\r\n", people.CSV},
		{"a header of CSV without a line end", "people.txt", "username,dateOfBirth", people.CSV},
		{"a header of CSV in another order and case", "-", "dateofbirth,\"USERNAME\",note\n", people.CSV},
		{"a header of CSV with semicolons", "-", "\ufeffusername;dateOfBirth\r\n", people.CSV},
		{"a header of CSV with tabs", "people.tsv", "\tusername\tdateOfBirth\t\n", people.CSV},
		{"a line for Excel above the header of CSV", "-", "sep=;\r\nusername;dateOfBirth\r\n", people.CSV},
		{"a person on a line", "-", line + "\n{", people.JSONL},
		{"a person on a line with BOM and CRLF", "-", "\ufeff" + line + "\r\n", people.JSONL},
		{"a person without a date", "-", `{"username": 1}`, people.JSONL},
		{"a person below blank lines", "-", "\n \r\n" + line, people.JSONL},
		{"an object", "-", object, people.Original},
		{"an object with another spelling of username", "-", `{"Username": "1990-05-17"}`, people.Original},
		{"an object that goes on", "-", `{"username": "1990-05-17",`, people.Original},
		{"an object on many lines", "-", "{\n", people.Original},
		{"nothing", "-", "", people.JSONL},
		{"white space", "people.txt", " \r\n\t", people.JSONL},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			got, err := people.Detect(tt.name, []byte(tt.head))
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestDetectRefuses(t *testing.T) {
	tests := []struct{ what, name, head string }{
		{"another header", "-", "name,born\n"},
		{"a header of CSV with a name twice", "-", "username,dateOfBirth,username\n"},
		{"an array", "people.json", `[{"username": "ana"}]`},
		{"a compressed file", "people.csv.gz", "\x1f\x8b\x08"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			_, err := people.Detect(tt.name, []byte(tt.head))
			require.EqualError(t, err, "neither the name nor the first line tells the format: name jsonl, csv or original with --format")
		})
	}
}

func TestRoundTrip(t *testing.T) {
	tests := []struct {
		what string
		all  []birthday.Person
	}{
		{"nobody", nil},
		{"one", []birthday.Person{storetest.Person("ana", "1990-05-17")}},
		{"the first and the last day", []birthday.Person{storetest.Person("a", "0001-01-01"), storetest.Person("b", "2026-05-16")}},
		{"names like the words of the formats", []birthday.Person{storetest.Person("username", "1990-05-17"), storetest.Person("dateOfBirth", "1990-05-17"), storetest.Person("null", "1990-05-17")}},
		{"names out of order and twice", []birthday.Person{storetest.Person("b", "1990-05-17"), storetest.Person("a", "1990-05-17"), storetest.Person("b", "1991-05-17")}},
		{"the longest names", []birthday.Person{storetest.Person(strings.Repeat("𐌰", 64), "1990-05-17"), storetest.Person(strings.Repeat("q"+strings.Repeat("\u0330", 15), 4), "1990-05-17")}},
		{"more than a buffer", slices.Repeat([]birthday.Person{storetest.Person("さくら", "1990-05-17")}, 10_000)},
	}
	for _, tt := range tests {
		for _, f := range formats {
			t.Run(tt.what+" as "+string(f), func(t *testing.T) {
				text := write(t, f, tt.all)
				var back []birthday.Person
				for p, err := range people.Read(strings.NewReader(text), f, rules) {
					require.NoError(t, err)
					back = append(back, p)
				}
				require.Equal(t, tt.all, back)
				if len(tt.all) > 0 {
					detected, err := people.Detect("-", []byte(text))
					require.NoError(t, err)
					require.Equal(t, f, detected)
				}
			})
		}
	}
}

// TestNothingNeedsAnEscape writes every letter and mark of Unicode as it is.
func TestNothingNeedsAnEscape(t *testing.T) {
	var all []birthday.Person
	for r := range unicode.MaxRune + 1 {
		text := string(r)
		switch {
		case unicode.Is(unicode.M, r):
			text = "a" + text
		case !unicode.Is(unicode.L, r):
			continue
		}
		if name, err := birthday.ParseUsername(text); err == nil {
			all = append(all, storetest.Person(string(name), "1990-05-17"))
		}
	}
	require.Greater(t, len(all), 130_000)
	for _, f := range formats {
		i := 0
		for p, err := range people.Read(strings.NewReader(write(t, f, all)), f, rules) {
			if err != nil || p != all[i] {
				require.NoError(t, err, "%+q as %s", all[i].Username, f)
				require.Equal(t, all[i], p, f)
			}
			i++
		}
		require.Equal(t, len(all), i, f)
	}
}

// failing takes some bytes and then gives an error.
type failing struct {
	left int
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// TestWriteLeavesOutWhoHasNoDate wants the places of those, and the others as if those
// were not there.
func TestWriteLeavesOutWhoHasNoDate(t *testing.T) {
	ana, bob, nobody := storetest.Person("ana", "1990-05-17"), storetest.Person("bob", "1990-05-18"), birthday.Person{Username: "kanarienvogel"}
	for _, f := range formats {
		for _, tt := range []struct {
			all    []birthday.Person
			others []birthday.Person
			places []int
		}{
			{[]birthday.Person{nobody, ana, bob}, []birthday.Person{ana, bob}, []int{1}},
			{[]birthday.Person{ana, nobody, nobody, bob, nobody}, []birthday.Person{ana, bob}, []int{2, 3, 5}},
			{[]birthday.Person{nobody}, nil, []int{1}},
		} {
			var text strings.Builder
			n, err := people.Write(&text, f, storetest.Stream(tt.all, nil))
			require.Equal(t, &birthday.LeftOutError{Count: len(tt.places), Places: tt.places}, err)
			require.Equal(t, len(tt.others), n)
			require.Equal(t, write(t, f, tt.others), text.String())
		}
		_, err := people.Write(io.Discard, f, storetest.Stream(slices.Repeat([]birthday.Person{nobody}, 1_000), nil))
		require.EqualError(t, err, "people whose birth date is no day from 0001-01-01 to 9999-12-31 are left out: 1000; "+
			"the first of their places in the order of names: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; "+
			"`check` of the database they come from tells how to find them")
		_, err = people.Write(io.Discard, f, storetest.Stream([]birthday.Person{nobody, ana}, io.ErrUnexpectedEOF))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "which is the graver one")
	}
}

func TestWriteEndsAtTheFirstError(t *testing.T) {
	trouble := errors.New("the disk is full")
	for _, f := range formats {
		_, err := people.Write(&failing{err: trouble}, f, storetest.Stream(nil, nil))
		if f != people.JSONL { // of which nobody is no byte
			require.ErrorIs(t, err, trouble)
		}
		_, err = people.Write(&failing{err: trouble}, f, storetest.Stream([]birthday.Person{storetest.Person("ana", "1990-05-17")}, nil))
		require.ErrorIs(t, err, trouble)

		n := 0
		_, err = people.Write(&failing{left: 100_000, err: trouble}, f, func(yield func(birthday.Person, error) bool) {
			for yield(storetest.Person("ana", "1990-05-17"), nil) {
				n++
			}
		})
		require.ErrorIs(t, err, trouble)
		require.Less(t, n, 20_000, "an endless stream ends with the writer")

		n, err = people.Write(io.Discard, f, storetest.Stream([]birthday.Person{storetest.Person("ana", "1990-05-17")}, trouble))
		require.Equal(t, trouble, err)
		require.Equal(t, 1, n)
	}
}

// pages is a store of which only After works.
type pages struct {
	birthday.Store
	all   []birthday.Person
	short int // how many fewer than it may it gives
	calls int
	err   error // of the third call
}

func (s *pages) After(_ context.Context, name birthday.Username, limit int) ([]birthday.Person, error) {
	if s.calls++; s.calls == 3 && s.err != nil {
		return nil, s.err
	}
	i, found := slices.BinarySearchFunc(s.all, name, func(p birthday.Person, name birthday.Username) int {
		return strings.Compare(string(p.Username), string(name))
	})
	if found {
		i++
	}
	return s.all[i:min(i+limit-s.short, len(s.all))], nil
}

func crowd(n int) (all []birthday.Person) {
	for i := range n {
		all = append(all, storetest.Person(storetest.Username(i), "1990-05-17"))
	}
	return all
}

func TestAll(t *testing.T) {
	for _, n := range []int{0, 1, 999, 1000, 1001, 2000, 2500} {
		for _, short := range []int{0, 1} {
			store := &pages{all: crowd(n), short: short}
			var got []birthday.Person
			for p, err := range people.All(t.Context(), store) {
				require.NoError(t, err)
				got = append(got, p)
			}
			require.Equal(t, store.all, got)
		}
	}
}

func TestAllReadsNoFurtherThanItsConsumer(t *testing.T) {
	store := &pages{all: crowd(2500)}
	n := 0
	for _, err := range people.All(t.Context(), store) {
		require.NoError(t, err)
		if n++; n == 1000 {
			break
		}
	}
	require.Equal(t, 1, store.calls)
}

func TestAllEndsWithTheStoresError(t *testing.T) {
	trouble := errors.New("the store is gone")
	var got []error
	for _, err := range people.All(t.Context(), &pages{all: crowd(2500), err: trouble}) {
		got = append(got, err)
	}
	require.Len(t, got, 2001)
	require.ErrorIs(t, got[2000], trouble)
}
