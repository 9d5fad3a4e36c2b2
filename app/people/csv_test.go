package people_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
	"birthday-demo/app/people"
	"birthday-demo/app/store/storetest"
)

func TestReadCSV(t *testing.T) {
	const (
		header = "username,dateOfBirth\n"
		good   = "ana 1990-05-17"
	)
	testReading(t, people.CSV, []readingTest{
		{"only the header", header, nil},
		{"two rows", header + "ana,1990-05-17\nbob,1991-06-18\n", []string{good, "bob 1991-06-18"}},
		{"CRLF", "username,dateOfBirth\r\nana,1990-05-17\r\nbob,1991-06-18\r\n", []string{good, "bob 1991-06-18"}},
		{"the last row has no end", header + "ana,1990-05-17", []string{good}},
		{"a byte order mark", "\ufeff" + header + "ana,1990-05-17\n", []string{good}},
		{"quoted fields", "\"username\",\"dateOfBirth\"\n\"ana\",\"1990-05-17\"\n", []string{good}},
		{"blank lines are skipped and count", "\n" + header + "\n\r\nana,1990-05-17\n\n,\n", []string{good, "line 7: INVALID_USERNAME, INVALID_DATE"}},
		{"the same name twice", header + "ana,1990-05-17\nana,1990-05-17\n", []string{good, good}},
		{"a person called like the header", header + "username,1990-05-17\n", []string{"username 1990-05-17"}},

		{"a refusal is not the end", header + ",1990-05-17\nana,1990-05-17\n", []string{"line 2: INVALID_USERNAME", good}},
		{"a bad date", header + "ana,17.5.1990\n", []string{"line 2: INVALID_DATE"}},
		{"both are wrong", header + "ana1,1990\n", []string{"line 2: INVALID_USERNAME, INVALID_DATE"}},
		{"spaces around", header + " ana ,1990-05-17\n", []string{"line 2: INVALID_USERNAME"}},
		{"a line end in a name", header + "\"a\nna\",1990-05-17\nana,1990-05-17\n,\n", []string{"line 2: INVALID_BODY", "line 3: INVALID_BODY", good, "line 5: INVALID_USERNAME, INVALID_DATE"}},
		{"invalid UTF-8", header + "an\xff,1990-05-17\n", []string{"line 2: INVALID_USERNAME"}},
		{"the header again", header + header, []string{"line 2: INVALID_DATE"}},

		{"one field", header + "ana\nana,1990-05-17\n", []string{"line 2: INVALID_BODY", good}},
		{"three fields", header + "ana,1990-05-17,\nana,1990-05-17\n", []string{"line 2: INVALID_BODY", good}},
		{"another separator", header + "ana;1990-05-17\n", []string{"line 2: INVALID_BODY"}},
		{"a line of spaces", header + "  \n", []string{"line 2: INVALID_BODY"}},
		{"a bare quote", header + "a\"na,1990-05-17\nana,1990-05-17\n", []string{"line 2: INVALID_BODY", good}},
		{"text after a quote", header + "\"a\"na,1990-05-17\nana,1990-05-17\n", []string{"line 2: INVALID_BODY", good}},
		{"a quote that is never closed", header + "ana,1990-05-17\n\"bob,1991-06-18\nana,1990-05-17\n", []string{good, "line 3: INVALID_BODY", good}},
		{"a quote opened in the last field", header + "bob,\"1991-06-18\nana,1990-05-17\n", []string{"line 2: INVALID_BODY", good}},
		{"a stray quote, and another lines later", header + "\"bob,1991-06-18\nana,1990-05-17\nana,1990-05-17\n\"cyd,1992-07-19\nana,1990-05-17\n", []string{"line 2: INVALID_BODY", good, good, "line 5: INVALID_BODY", good}},
		{"a quote opened on the last line", header + "ana,1990-05-17\n\"", []string{good, "line 3: INVALID_BODY"}},
		{"the last line is a CR", header + "ana,1990-05-17\n\r", []string{good}},
	})
}

func TestReadCSVByItsHeader(t *testing.T) {
	const (
		good   = "ana 1990-05-17"
		ignore = "columns beside username and dateOfBirth, which are ignored: "
	)
	testReading(t, people.CSV, []readingTest{
		{"the other order", "dateOfBirth,username\n1990-05-17,ana\n", []string{good}},
		{"another case", "USERNAME,dateofbirth\nana,1990-05-17\n", []string{good}},
		{"semicolons", "username;dateOfBirth\r\nana;1990-05-17\r\n\r\n", []string{good}},
		{"tabs", "username\tdateOfBirth\nana\t1990-05-17\n", []string{good}},
		{"semicolons, quotes and a byte order mark", "\ufeff\"DateOfBirth\";\"Username\"\n\"1990-05-17\";\"ana\"\n", []string{good}},
		{"a line for Excel", "\ufeffsep=;\r\nusername;dateOfBirth\r\nana;1990-05-17\r\n", []string{good}},
		{"a line for Excel and nothing more", "sep=;\n", nil},
		{"a line for Excel counts", "sep=;\nusername;dateOfBirth\n;1990-05-17\n", []string{"line 3: INVALID_USERNAME"}},
		{"another separator than the header's", "username;dateOfBirth\nana,1990-05-17\nana;1990-05-17\n", []string{"line 2: INVALID_BODY", good}},
		{"the other separators are text", "username\tdateOfBirth\na;na\t1990-05-17\n", []string{"line 2: INVALID_USERNAME"}},
		{"columns more", "email,dateOfBirth,note,username\nx,1990-05-17,\"a, b\",ana\n", []string{ignore + "2", good}},
		{"columns more, and none of them here", "username;dateOfBirth;note\nana;1990-05-17\nana;1990-05-17;\n", []string{ignore + "1", "line 2: INVALID_BODY", good}},
		{"a column more without a name", "username,dateOfBirth,\nana,1990-05-17,\n", []string{ignore + "1", good}},
		{"a column more with a line end", "username,dateOfBirth,note\nana,1990-05-17,\"a\nb\"\nana,1990-05-17,\n", []string{ignore + "1", "line 2: INVALID_BODY", "line 3: INVALID_BODY", good}},
	})
}

// TestReadCSVKeepsEveryGoodLine has two stray quotes, with half of the lines between
// them.
func TestReadCSVKeepsEveryGoodLine(t *testing.T) {
	lines := slices.Repeat([]string{"ana,1990-05-17"}, 5000)
	lines[1200], lines[3700] = "\"ana,1990-05-17", "ana,\"1990-05-17"
	kept, refusals := 0, []string(nil)
	for _, err := range people.Read(strings.NewReader("username,dateOfBirth\n"+strings.Join(lines, "\n")), people.CSV, rules) {
		if err != nil {
			refusals = append(refusals, err.Error())
			continue
		}
		kept++
	}
	require.Equal(t, []string{"line 1202: INVALID_BODY", "line 3702: INVALID_BODY"}, refusals)
	require.Equal(t, 4998, kept)
}

func TestReadCSVNeedsItsHeader(t *testing.T) {
	want := []string{"the first line must be a header like username,dateOfBirth: both names once, separated by comma, semicolon or tab"}
	testReading(t, people.CSV, []readingTest{
		{"nothing", "", nil},
		{"blank lines", "\n\r\n", nil},
		{"a row", "ana,1990-05-17\n", want},
		{"spaces", "username, dateOfBirth\nana,1990-05-17\n", want},
		{"a column less", "username\nana\n", want},
		{"a name twice", "username,dateOfBirth,Username\nana,1990-05-17,bob\n", want},
		{"both names in one column", "\"username,dateOfBirth\",\"\"\n", want},
		{"two separators", "email,username;dateOfBirth\nx,ana;1990-05-17\n", want},
		{"a fourth separator", "username|dateOfBirth\nana|1990-05-17\n", want},
		{"a broken quote", "username,\"dateOfBirth\nana,1990-05-17\n", want},
		{"a header over two lines", "username,dateOfBirth,\"a\nb\"\nana,1990-05-17,x\n", want},
		{"UTF-16", "\xff\xfeu\x00s\x00", want},
		{"lines that end with CR", "username,dateOfBirth\rana,1990-05-17\r", want},
	})
}

func TestWriteCSV(t *testing.T) {
	require.Equal(t, "username,dateOfBirth\n", write(t, people.CSV, nil))
	require.Equal(t, "username,dateOfBirth\nana,1990-05-17\nさくら,0001-01-01\n",
		write(t, people.CSV, []birthday.Person{storetest.Person("ana", "1990-05-17"), storetest.Person("さくら", "0001-01-01")}))
}

func BenchmarkReadCSV(b *testing.B) { benchmarkRead(b, people.CSV) }
