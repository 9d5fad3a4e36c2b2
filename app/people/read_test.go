package people_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/people"
	"birthday-demo/app/store/storetest"
)

// readingTest is a text of a format and what Read makes of it, as collect shows
// it.
type readingTest struct {
	what, text string
	want       []string
}

func testReading(t *testing.T, f people.Format, tests []readingTest) {
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			require.Equal(t, tt.want, collect(people.Read(strings.NewReader(tt.text), f, rules)))
		})
	}
}

func TestRefusal(t *testing.T) {
	one := people.Refusal{Line: 7, Codes: []birthday.Code{birthday.InvalidDate}}
	require.EqualError(t, one, "line 7: INVALID_DATE")
	two := people.Refusal{Line: 8, Codes: []birthday.Code{birthday.InvalidUsername, birthday.InvalidDate}}
	require.EqualError(t, two, "line 8: INVALID_USERNAME, INVALID_DATE")
	text, err := json.Marshal(two)
	require.NoError(t, err)
	require.JSONEq(t, `{"line": 8, "codes": ["INVALID_USERNAME", "INVALID_DATE"]}`, string(text))
}

func TestRulesAreThoseOfTheAPI(t *testing.T) {
	const text = "username,dateOfBirth\nana,2026-05-16\nbob,2026-05-17\nJose\u0301,1990-05-17\n"
	require.Equal(t, []string{"ana 2026-05-16", "line 3: INVALID_DATE", "Jos\u00e9 1990-05-17"},
		collect(people.Read(strings.NewReader(text), people.CSV, rules)))
	ascii := people.Rules{Today: birthday.Date{Year: 2026, Month: 5, Day: 18}, ASCIIUsernames: true}
	require.Equal(t, []string{"ana 2026-05-16", "bob 2026-05-17", "line 4: INVALID_USERNAME"},
		collect(people.Read(strings.NewReader(text), people.CSV, ascii)))
}

// endless gives a start and then a unit, again and again, and counts its bytes.
type endless struct {
	start, unit string
	given       int
}

func (e *endless) Read(p []byte) (n int, err error) {
	n = copy(p, e.start)
	e.start = e.start[n:]
	for n < len(p) {
		copied := copy(p[n:], e.unit)
		e.start = e.unit[copied:] // what did not fit comes first next time
		n += copied
	}
	e.given += n
	return n, nil
}

func TestReadStopsWithItsConsumer(t *testing.T) {
	sources := map[people.Format]*endless{
		people.JSONL:    {unit: `{"username": "ana", "dateOfBirth": "1990-05-17"}` + "\n"},
		people.CSV:      {start: "username,dateOfBirth\n", unit: "ana,1990-05-17\n"},
		people.Original: {start: "{", unit: `"ana": "1990-05-17",`},
	}
	for f, source := range sources {
		n := 0
		for p, err := range people.Read(source, f, rules) {
			require.NoError(t, err)
			require.Equal(t, storetest.Person("ana", "1990-05-17"), p)
			if n++; n == 3 {
				break
			}
		}
		require.LessOrEqual(t, source.given, 128<<10, f)
	}
}

func TestTroubleOfTheSourceIsTheLast(t *testing.T) {
	trouble := errors.New("the disk is gone")
	hidden := fmt.Errorf("the connection broke: %w", io.EOF)
	texts := map[people.Format]string{
		people.JSONL:    `{"username": "ana", "dateOfBirth": "1990-05-17"}` + "\n" + `{"username": "bob", "dateOfBirth": "1990-05-17"}`,
		people.CSV:      "username,dateOfBirth\nana,1990-05-17\nbob,1990-05-17",
		people.Original: `{"ana": "1990-05-17", "bob": "1990-05-17"}`,
	}
	for f, text := range texts {
		for _, cause := range []error{trouble, hidden} {
			for length := range len(text) + 1 {
				source := io.MultiReader(strings.NewReader(text[:length]), iotest.ErrReader(cause))
				var errs []error
				for p, err := range people.Read(source, f, rules) {
					if err != nil {
						errs = append(errs, err)
						continue
					}
					require.Contains(t, text, string(p.Username))
				}
				require.NotEmpty(t, errs)
				require.ErrorIs(t, errs[len(errs)-1], cause, "%s, after %d bytes", f, length)
			}
		}
	}
}

// large is a text of 64 MiB.
func large(start, unit, end string) io.Reader {
	parts := []io.Reader{strings.NewReader(start)}
	part := strings.Repeat(unit, 1<<20/len(unit))
	for range 64 {
		parts = append(parts, strings.NewReader(part))
	}
	return io.MultiReader(append(parts, strings.NewReader(end))...)
}

func TestLargeEntriesTakeLittleMemory(t *testing.T) {
	const (
		ana     = `{"username": "ana", "dateOfBirth": "1990-05-17"}` + "\n"
		tooLong = "more than 64 KiB for one person"

		noHeader = "the first line must be a header like username,dateOfBirth: both names once, separated by comma, semicolon or tab"
	)
	tests := []struct {
		what             string
		format           people.Format
		start, unit, end string
		want             []string
	}{
		{"a long line", people.JSONL, ana + `{"username": "`, "a", "\"}\n" + ana, []string{"ana 1990-05-17", "line 2: INVALID_BODY", "ana 1990-05-17"}},
		{"a long line without an end", people.JSONL, ana, "{", "", []string{"ana 1990-05-17", "line 2: INVALID_BODY"}},
		{"a long line of spaces", people.JSONL, "", " ", "\n" + ana, []string{"line 1: INVALID_BODY", "ana 1990-05-17"}},
		{"a long header", people.CSV, "", "a", "", []string{noHeader}},
		{"a long header with the names", people.CSV, "username,dateOfBirth,", "a", "\nana,1990-05-17,\n", []string{noHeader}},
		{"a long row", people.CSV, "username,dateOfBirth\nana,1990-05-17\n", "a", "\r\n\nana,1990-05-17\n,\n", []string{"ana 1990-05-17", "line 3: INVALID_BODY", "ana 1990-05-17", "line 6: INVALID_USERNAME, INVALID_DATE"}},
		{"a long row with a bare quote", people.CSV, "username,dateOfBirth\na\"", "a", "\nana,1990-05-17\n", []string{"line 2: INVALID_BODY", "ana 1990-05-17"}},
		{"a long row in a quote", people.CSV, "username,dateOfBirth\n\"", "a", "\"\nana,1990-05-17\n", []string{"line 2: INVALID_BODY", "ana 1990-05-17"}},
		{"a long row without an end", people.CSV, "username,dateOfBirth\nana,1990-05-17", " ", "", []string{"line 2: INVALID_BODY"}},
		{"a long row in a quote that is never closed", people.CSV, "username,dateOfBirth\n\nana,1990-05-17\n\"", "a", "\nana,1990-05-17\n", []string{"ana 1990-05-17", "line 4: INVALID_BODY", "ana 1990-05-17"}},
		{"many blank lines", people.CSV, "username,dateOfBirth\n", "\n", "ana,1990-05-17\n", []string{"ana 1990-05-17"}},
		{"something long before the object", people.Original, `"`, "a", `"`, []string{"line 1: " + tooLong}},
		{"a long name", people.Original, "{\n\"", "a", `": "1990-05-17"}`, []string{"line 2: " + tooLong}},
		{"a long value", people.Original, `{"ana": "`, "a", `"}`, []string{"line 1: " + tooLong}},
		{"a long array as a value", people.Original, `{"ana": [1`, ",1", `]}`, []string{"line 1: " + tooLong}},
		{"a long space between entries", people.Original, `{"ana": "1990-05-17",`, " ", `}`, []string{"ana 1990-05-17", "line 1: " + tooLong}},
		{"a long space after the object", people.Original, `{"ana": "1990-05-17"}`, " ", "", []string{"ana 1990-05-17", "line 1: " + tooLong}},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			text := large(tt.start, tt.unit, tt.end)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			require.Equal(t, tt.want, collect(people.Read(text, tt.format, rules)))
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
		})
	}
}

// quoteless are all the errors that a text can lead to: none has a value of it.
var quoteless = regexp.MustCompile(`^line \d+: (INVALID_BODY|INVALID_USERNAME|INVALID_DATE|INVALID_USERNAME, INVALID_DATE)$` +
	`|^the first line must be a header like username,dateOfBirth: [a-z, ]+$` +
	`|^columns beside username and dateOfBirth, which are ignored: \d+$` +
	`|^line \d+: (the file is not one JSON object|the JSON is broken|the file ends before its JSON object|there is more after the JSON object)$` +
	`|^line \d+: more than 64 KiB for one person$`)

func FuzzRead(f *testing.F) {
	for _, text := range []string{
		"", "\n", "\ufeff", "{", "{}", "[]", `"`, "null", "\xff",
		`{"username": "ana", "dateOfBirth": "1990-05-17"}` + "\r\n\n" + `{"username": 1, "username": 2}`,
		`{"dateOfBirth": "1990-05-17", "x": [{"y": 1e999}], "usern\u0061me": "Jose\u0301"}`,
		"username,dateOfBirth\nana,1990-05-17\n\"b\"\"\n\",1\nc,d,e\r\n\"ana\",\"1990-05-17\"\n\"",
		"sep=;\r\nDateOfBirth;\"note\";username\r\n1990-05-17;\"a;b\";ana\r\n;;\r\n\"", "username\tdateOfBirth\nana\t1990-05-17",
		"{\n  \"ana\": \"1990-05-17\",\n  \"bob\": null, \"\": {}\n}\n", `{"ana": "1990-05-17"} x`, `{"a": 1 "b"}`,
	} {
		f.Add(text)
	}
	f.Add("username,dateOfBirth\nq" + strings.Repeat("\u0330", 40) + ",1990-05-17") // NFC as the library has it puts a mark between
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = people.Detect("-", []byte(text))
		for _, format := range formats {
			lines := collect(people.Read(strings.NewReader(text), format, rules))
			slowly := collect(people.Read(iotest.OneByteReader(strings.NewReader(text)), format, rules))
			require.Equal(t, lines, slowly, "%s, byte by byte", format)
			requireRefusalsInOrder(t, text, format)
			requireSameAgain(t, text, format)
		}
	})
}

func requireRefusalsInOrder(t *testing.T, text string, f people.Format) {
	t.Helper()
	last, ended := 0, false
	for _, err := range people.Read(strings.NewReader(text), f, rules) {
		require.False(t, ended, "an error that is no refusal is the last")
		if err == nil {
			continue
		}
		require.Regexp(t, quoteless, err.Error())
		if _, ok := errors.AsType[people.Warning](err); ok {
			continue
		}
		refusal, ok := errors.AsType[people.Refusal](err)
		if ended = !ok; ended {
			continue
		}
		require.GreaterOrEqual(t, refusal.Line, max(last, 1))
		require.LessOrEqual(t, refusal.Line, strings.Count(text, "\n")+1)
		last = refusal.Line
	}
}

// requireSameAgain writes the people in a text in every format, and reads them.
func requireSameAgain(t *testing.T, text string, f people.Format) {
	t.Helper()
	var all []birthday.Person
	for p, err := range people.Read(strings.NewReader(text), f, rules) {
		if err == nil {
			all = append(all, p)
		}
	}
	for _, other := range formats {
		var back []birthday.Person
		for p, err := range people.Read(strings.NewReader(write(t, other, all)), other, rules) {
			require.NoError(t, err)
			back = append(back, p)
		}
		require.Equal(t, all, back, "%s as %s", f, other)
	}
}

// benchmarkRead measures one person of 10,000.
func benchmarkRead(b *testing.B, f people.Format) {
	all := crowd(10_000)
	text := []byte(write(b, f, all))
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		for _, err := range people.Read(bufio.NewReaderSize(bytes.NewReader(text), 1<<20), f, rules) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	runtime.ReadMemStats(&after)
	read := float64(b.N) * float64(len(all))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/read, "ns/person")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/read, "allocs/person")
}
