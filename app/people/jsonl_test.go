package people_test

import (
	"bufio"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/people"
	"birthday-demo/app/store/storetest"
)

func TestReadJSONL(t *testing.T) {
	const (
		ana  = `{"username": "ana", "dateOfBirth": "1990-05-17"}`
		bob  = `{"username": "bob", "dateOfBirth": "1991-06-18"}`
		good = "ana 1990-05-17"
	)
	testReading(t, people.JSONL, []readingTest{
		{"nothing", "", nil},
		{"blank lines", "\n\r\n \t\n", nil},
		{"two lines", ana + "\n" + bob + "\n", []string{good, "bob 1991-06-18"}},
		{"CRLF", ana + "\r\n" + bob + "\r\n", []string{good, "bob 1991-06-18"}},
		{"the last line has no end", ana + "\n" + bob, []string{good, "bob 1991-06-18"}},
		{"a byte order mark", "\ufeff" + ana, []string{good}},
		{"only a byte order mark", "\ufeff", nil},
		{"a second byte order mark", "\ufeff\ufeff" + ana, []string{"line 1: INVALID_BODY"}},
		{"a byte order mark on another line", ana + "\n\ufeff" + bob, []string{good, "line 2: INVALID_BODY"}},
		{"blank lines count", "\n\n{}\n\n{}", []string{"line 3: INVALID_USERNAME, INVALID_DATE", "line 5: INVALID_USERNAME, INVALID_DATE"}},
		{"the same name twice", ana + "\n" + ana, []string{good, good}},
		{"members in the other order, without spaces", `{"dateOfBirth":"1990-05-17","username":"ana"}`, []string{good}},
		{"white space around", " \t" + ana + " ", []string{good}},
		{"escapes", `{"usern\u0061me": "\u0061na", "dateOfBirth": "1990\u002d05-17"}`, []string{good}},
		{"a decomposed name", `{"username": "Jose\u0301", "dateOfBirth": "1990-05-17"}`, []string{"Jos\u00e9 1990-05-17"}},
		{"unknown members", `{"a": 1e999, "username": "ana", "b": [{"username": null}], "dateOfBirth": "1990-05-17", "": ""}`, []string{good}},

		{"a refusal is not the end", "{\n" + ana + "\nx\n" + bob, []string{"line 1: INVALID_BODY", good, "line 3: INVALID_BODY", "bob 1991-06-18"}},
		{"no name", `{"dateOfBirth": "1990-05-17"}`, []string{"line 1: INVALID_USERNAME"}},
		{"another spelling of the member", `{"Username": "ana", "dateofbirth": "1990-05-17"}`, []string{"line 1: INVALID_USERNAME, INVALID_DATE"}},
		{"a name that is null", `{"username": null, "dateOfBirth": "1990-05-17"}`, []string{"line 1: INVALID_USERNAME"}},
		{"a name that is a number", `{"username": 7, "dateOfBirth": "1990-05-17"}`, []string{"line 1: INVALID_USERNAME"}},
		{"a name that is a list", `{"username": ["ana"], "dateOfBirth": "1990-05-17"}`, []string{"line 1: INVALID_USERNAME"}},
		{"a name with a digit", `{"username": "ana1", "dateOfBirth": "1990-05-17"}`, []string{"line 1: INVALID_USERNAME"}},
		{"a name with half a surrogate pair", `{"username": "ana\ud800", "dateOfBirth": "1990-05-17"}`, []string{"line 1: INVALID_USERNAME"}},
		{"no date", `{"username": "ana"}`, []string{"line 1: INVALID_DATE"}},
		{"a date that is a number", `{"username": "ana", "dateOfBirth": 19900517}`, []string{"line 1: INVALID_DATE"}},
		{"a day that does not exist", `{"username": "ana", "dateOfBirth": "1990-02-30"}`, []string{"line 1: INVALID_DATE"}},
		{"today", `{"username": "ana", "dateOfBirth": "2026-05-17"}`, []string{"line 1: INVALID_DATE"}},
		{"both are wrong", `{"username": "", "dateOfBirth": ""}`, []string{"line 1: INVALID_USERNAME, INVALID_DATE"}},

		{"a repeated name", `{"username": "ana", "username": "ana", "dateOfBirth": "1990-05-17"}`, []string{"line 1: INVALID_BODY"}},
		{"a repeated name, once null", `{"username": null, "username": "ana", "dateOfBirth": "1990-05-17"}`, []string{"line 1: INVALID_BODY"}},
		{"a repeated date, once as an escape", `{"username": "ana", "dateOfBirth": "1990-05-17", "d\u0061teOfBirth": "1990-05-17"}`, []string{"line 1: INVALID_BODY"}},
		{"a repeated unknown member", `{"username": "ana", "dateOfBirth": "1990-05-17", "a": 1, "a": 2}`, []string{"line 1: INVALID_BODY"}},
		{"two objects", ana + bob, []string{"line 1: INVALID_BODY"}},
		{"a comma behind", ana + ",", []string{"line 1: INVALID_BODY"}},
		{"a comma too many", `{"username": "ana", "dateOfBirth": "1990-05-17",}`, []string{"line 1: INVALID_BODY"}},
		{"an object over two lines", "{\"username\": \"ana\",\n\"dateOfBirth\": \"1990-05-17\"}", []string{"line 1: INVALID_BODY", "line 2: INVALID_BODY"}},
		{"a list", "[" + ana + "]", []string{"line 1: INVALID_BODY"}},
		{"a text", `"ana"`, []string{"line 1: INVALID_BODY"}},
		{"null", "null", []string{"line 1: INVALID_BODY"}},
		{"a line of CSV", "ana,1990-05-17", []string{"line 1: INVALID_BODY"}},
		{"invalid UTF-8 in a name", "{\"username\": \"an\xff\", \"dateOfBirth\": \"1990-05-17\"}", []string{"line 1: INVALID_BODY"}},
		{"invalid UTF-8 in an unknown member", "{\"username\": \"ana\", \"dateOfBirth\": \"1990-05-17\", \"a\": \"\xff\"}", []string{"line 1: INVALID_BODY"}},
		{"a zero byte", ana + "\x00", []string{"line 1: INVALID_BODY"}},
		{"a tab in a name", "{\"username\": \"a\tna\", \"dateOfBirth\": \"1990-05-17\"}", []string{"line 1: INVALID_BODY"}},
		{"a form feed between tokens", "{\f}", []string{"line 1: INVALID_BODY"}},
		{"lines that end with CR", ana + "\r" + bob + "\r", []string{"line 1: INVALID_BODY"}},
	})
}

// TestLongestLine reads lines of 64 KiB and more, from a source with a small
// buffer and from one with a large buffer, which Read then keeps.
func TestLongestLine(t *testing.T) {
	line := func(length int, end string) string {
		text := `{"username": "ana", "dateOfBirth": "1990-05-17"}`
		return text + strings.Repeat(" ", length-len(text)-len(end)) + end
	}
	const most = 64 << 10
	tests := []readingTest{
		{"the longest", line(most, "\n"), []string{"ana 1990-05-17"}},
		{"the longest with CRLF", line(most, "\r\n"), []string{"ana 1990-05-17"}},
		{"the longest without an end", line(most, ""), []string{"ana 1990-05-17"}},
		{"a byte more", line(most+1, "\n"), []string{"line 1: INVALID_BODY"}},
		{"a byte more without an end", line(most+1, ""), []string{"line 1: INVALID_BODY"}},
		{"many more, and another line", line(5*most, "\n") + line(100, "\n"), []string{"line 1: INVALID_BODY", "ana 1990-05-17"}},
	}
	testReading(t, people.JSONL, tests)
	for _, tt := range tests {
		source := bufio.NewReaderSize(strings.NewReader(tt.text), 1<<20)
		require.Equal(t, tt.want, collect(people.Read(source, people.JSONL, rules)), tt.what)
	}
}

func TestWriteJSONL(t *testing.T) {
	require.Empty(t, write(t, people.JSONL, nil))
	want := `{"username": "ana", "dateOfBirth": "1990-05-17"}
{"username": "さくら", "dateOfBirth": "0001-01-01"}
`
	require.Equal(t, want, write(t, people.JSONL, []birthday.Person{storetest.Person("ana", "1990-05-17"), storetest.Person("さくら", "0001-01-01")}))
}

func BenchmarkReadJSONL(b *testing.B) { benchmarkRead(b, people.JSONL) }
