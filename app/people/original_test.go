package people_test

import (
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/people"
	"birthday-demo/app/store/storetest"
)

func TestReadOriginal(t *testing.T) {
	const good = "ana 1990-05-17"
	testReading(t, people.Original, []readingTest{
		{"nobody", "{}", nil},
		{"one line", `{"ana": "1990-05-17", "bob": "1991-06-18"}`, []string{good, "bob 1991-06-18"}},
		{"without spaces", `{"ana":"1990-05-17","bob":"1991-06-18"}`, []string{good, "bob 1991-06-18"}},
		{"many lines", "\n{\n  \"ana\": \"1990-05-17\",\n  \"bob\": \"1991-06-18\"\n}\n\n", []string{good, "bob 1991-06-18"}},
		{"CRLF", "{\r\n\"ana\":\r\n\"1990-05-17\"\r\n}\r\n", []string{good}},
		{"a byte order mark", "\ufeff{\"ana\": \"1990-05-17\"}", []string{good}},
		{"escapes", `{"\u0061na": "1990\u002d05-17"}`, []string{good}},
		{"the same name twice", `{"ana": "1990-05-17", "ana": "1990-05-17"}`, []string{good, good}},
		{"a person called like a member", `{"username": "1990-05-17"}`, []string{"username 1990-05-17"}},

		{"a refusal is not the end", `{"ana1": "1990-05-17", "ana": "1990-05-17"}`, []string{"line 1: INVALID_USERNAME", good}},
		{"a bad date", `{"ana": "1990-5-17"}`, []string{"line 1: INVALID_DATE"}},
		{"both are wrong", `{"": ""}`, []string{"line 1: INVALID_USERNAME, INVALID_DATE"}},
		{"null", `{"ana": null, "ana": "1990-05-17"}`, []string{"line 1: INVALID_DATE", good}},
		{"a number that is too large", `{"ana": 1e999, "ana": "1990-05-17"}`, []string{"line 1: INVALID_DATE", good}},
		{"an object", `{"ana": {"born": ["1990-05-17", {}]}, "ana": "1990-05-17"}`, []string{"line 1: INVALID_DATE", good}},
		{"the line where the value ends", "{\n\"ana\":\n\n{\n}\n,\n\n\"bob\"\n:\n\"\",\"ana\": \"1990-05-17\"\n}", []string{"line 5: INVALID_DATE", "line 10: INVALID_DATE", good}},
		{"invalid UTF-8", "{\"an\xff\": \"1990-05-17\"}", []string{"line 1: INVALID_USERNAME"}},
		{"half a surrogate pair", `{"an\ud800": "1990-05-17"}`, []string{"line 1: INVALID_USERNAME"}},

		{"nothing", "", nil},
		{"blank lines", "\n\n", nil},
		{"a list", "\n[\"ana\"]", []string{"line 2: the file is not one JSON object"}},
		{"a text", `"ana"`, []string{"line 1: the file is not one JSON object"}},
		{"null instead", "null", []string{"line 1: the file is not one JSON object"}},
		{"a number that is cut off", "-", []string{"line 1: the file ends before its JSON object"}},
		{"CSV", "username,dateOfBirth\n", []string{"line 1: the JSON is broken"}},
		{"it ends in a name", "{\n\"ana\": \"1990-05-17\",\n\"bo", []string{good, "line 3: the file ends before its JSON object"}},
		{"it ends before a colon", `{"ana"`, []string{"line 1: the file ends before its JSON object"}},
		{"it ends before a value", `{"ana":`, []string{"line 1: the file ends before its JSON object"}},
		{"it ends in a value", `{"ana": "1990`, []string{"line 1: the file ends before its JSON object"}},
		{"it ends before a comma", `{"ana": "1990-05-17"`, []string{good, "line 1: the file ends before its JSON object"}},
		{"it ends after a comma", `{"ana": "1990-05-17",`, []string{good, "line 1: the file ends before its JSON object"}},
		{"a comma too many", "{\"ana\": \"1990-05-17\",\n}", []string{good, "line 2: the JSON is broken"}},
		{"a comma first", `{,"ana": "1990-05-17"}`, []string{"line 1: the JSON is broken"}},
		{"no comma", "{\"ana\": \"1990-05-17\"\n\"bob\": \"1990-05-17\"}", []string{good, "line 2: the JSON is broken"}},
		{"no colon", `{"ana" "1990-05-17"}`, []string{"line 1: the JSON is broken"}},
		{"no value", `{"ana": }`, []string{"line 1: the JSON is broken"}},
		{"a name without quotes", `{ana: "1990-05-17"}`, []string{"line 1: the JSON is broken"}},
		{"a name that is a number", `{7: "1990-05-17"}`, []string{"line 1: the JSON is broken"}},
		{"a name that is an object", `{{}: "1990-05-17"}`, []string{"line 1: the JSON is broken"}},
		{"another bracket", `{"ana": "1990-05-17"]`, []string{good, "line 1: the JSON is broken"}},
		{"a line end in a text", "{\"ana\": \"1990\n-05-17\"}", []string{"line 1: the JSON is broken"}},
		{"broken within a value", `{"ana": {"a" 1}}`, []string{"line 1: the JSON is broken"}},
		{"a text after the object", "{\"ana\": \"1990-05-17\"}\nx", []string{good, "line 2: there is more after the JSON object"}},
		{"an object after the object", "{}\n\n{}", []string{"line 3: there is more after the JSON object"}},
		{"a bracket after the object", "{}}", []string{"line 1: there is more after the JSON object"}},
		{"JSON lines", "{\"username\": \"ana\"}\n{\"username\": \"bob\"}\n", []string{"line 1: INVALID_DATE", "line 2: there is more after the JSON object"}},
	})
}

// TestOneLongLine reads 4 MiB that stand on one line, and looks at the memory
// on the way.
func TestOneLongLine(t *testing.T) {
	const entry = `"ana": "1990-05-17",`
	text := io.MultiReader(strings.NewReader("{"), strings.NewReader(strings.Repeat(entry, 4<<20/len(entry))), strings.NewReader(`"last": 1}`))
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n := 0
	var last error
	for _, err := range people.Read(text, people.Original, rules) {
		if n++; n%50_000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			require.Less(t, int64(now.HeapAlloc)-int64(before.HeapAlloc), int64(1<<20))
		}
		last = err
	}
	require.Equal(t, 4<<20/len(entry)+1, n)
	require.EqualError(t, last, "line 1: INVALID_DATE")
}

func TestWriteOriginal(t *testing.T) {
	require.JSONEq(t, "{}", write(t, people.Original, nil))
	want := `{
  "ana": "1990-05-17",
  "さくら": "0001-01-01"
}
`
	require.Equal(t, want, write(t, people.Original, []birthday.Person{storetest.Person("ana", "1990-05-17"), storetest.Person("さくら", "0001-01-01")}))
}

func BenchmarkReadOriginal(b *testing.B) { benchmarkRead(b, people.Original) }
