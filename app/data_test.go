package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/bolt"
	"birthday-demo/app/testkit"
)

// command runs a command with an input, and gives what it printed and its exit
// code.
func command(t *testing.T, input string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, err testkit.Output
	w := testWorld(&out, &err, nil, args...)
	w.stdin = strings.NewReader(input)
	failure := run(t.Context(), w)
	messages := err.String()
	if failure != nil {
		messages += "error: " + failure.Error()
	}
	return out.String(), messages, exitCode(failure)
}

const threePeople = `{"username": "ana", "dateOfBirth": "1990-05-17"}
{"username": "bob", "dateOfBirth": "1980-02-29"}
{"username": "Ána", "dateOfBirth": "1970-01-01"}
`

func TestImportAndExportInEveryFormat(t *testing.T) {
	folder := t.TempDir()
	store := "--store=" + filepath.Join(folder, "birthday.db")
	_, messages, code := command(t, threePeople, "import", store)
	require.Zero(t, code, messages)
	require.Equal(t, "taken: 3, refused: 0\n", messages)
	for _, format := range []string{"jsonl", "csv", "original"} {
		exported, messages, code := command(t, "", "export", "--format", format, store)
		require.Zero(t, code, messages)
		if format == "jsonl" {
			require.Equal(t, threePeople, exported)
		}
		other := "--store=" + filepath.Join(folder, format+".db")
		_, messages, code = command(t, exported, "import", other) // by its first line
		require.Zero(t, code, messages)
		again, _, code := command(t, "", "export", other)
		require.Zero(t, code)
		require.Equal(t, threePeople, again)
	}
}

func TestImportTellsWhatItRefused(t *testing.T) {
	store := "--store=" + filepath.Join(t.TempDir(), "birthday.db")
	input := "username,dateOfBirth\nana,1990-05-17\nana7,1991-06-18\neve,1990-02-30\nbob,1980-01-01\nana,1992-07-19\nfuture,9999-01-01\n"
	stdout, messages, code := command(t, input, "import", "--json", store)
	require.Equal(t, 3, code)
	require.Contains(t, messages, "taken: 3, refused: 3\nline 3: INVALID_USERNAME\nline 4: INVALID_DATE\nline 7: INVALID_DATE\n")
	require.NotContains(t, messages, "ana7")
	var report map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.EqualValues(t, 3, report["taken"])
	require.EqualValues(t, 3, report["refused"])
	exported, _, _ := command(t, "", "export", "--format=csv", store)
	require.Equal(t, "username,dateOfBirth\nana,1992-07-19\nbob,1980-01-01\n", exported, "the last line of a name wins")

	_, again, code := command(t, input, "import", store)
	require.Equal(t, 3, code)
	require.Contains(t, again, "taken: 3, refused: 3")
	same, _, _ := command(t, "", "export", "--format=csv", store)
	require.Equal(t, exported, same, "doing it again changes nothing")
}

func TestImportDryRunChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "birthday.db")
	_, messages, code := command(t, threePeople+"{}\n", "import", "--dry-run", "--store="+path)
	require.Equal(t, 3, code)
	require.Contains(t, messages, "would be taken: 3, refused: 1\n")
	require.NoFileExists(t, path)
}

func TestADryRunAsksWhetherTheServiceWouldLetItIn(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(tokens, []byte("admin-token\n"), 0o600))
	a := start(t, "--admin-tokens-file="+tokens)
	dry := func(args ...string) (messages string, code int) {
		_, messages, code = command(t, threePeople, append([]string{"import", "--dry-run"}, args...)...)
		return messages, code
	}
	messages, code := dry("--admin="+a.internal, "--admin-tokens-file="+tokens)
	require.Zero(t, code, messages)
	require.Equal(t, "would be taken: 3, refused: 0\n", messages)
	require.Contains(t, a.get(a.public+"/hello/ana"), "404 ", "and is sent nobody")
	messages, code = dry("--admin=" + a.internal)
	require.Equal(t, 1, code)
	require.Equal(t, "error: import -: HEAD "+a.internal+"/export: 401 Unauthorized", messages)
	require.NoError(t, a.stop())
	messages, code = dry("--admin="+a.internal, "--admin-tokens-file="+tokens)
	require.Equal(t, 1, code)
	require.Contains(t, messages, "import -: ask the service: ")
	require.NotContains(t, messages, "may be kept")
}

func TestAnEmptyImportIsNobody(t *testing.T) {
	folder := t.TempDir()
	store := "--store=" + filepath.Join(folder, "birthday.db")
	for _, name := range []string{"people", "people.jsonl", "people.csv", "people.json"} {
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		_, messages, code := command(t, "", "import", path, store)
		require.Zero(t, code, "%s: %s", name, messages)
		require.Equal(t, "taken: 0, refused: 0\n", messages)
	}
	a := start(t)
	for _, format := range []string{"", "jsonl", "csv", "original"} {
		_, messages, code := command(t, "", "import", "--format="+format, "--admin="+a.internal)
		require.Zero(t, code, "%s: %s", format, messages)
		require.Equal(t, "taken: 0, refused: 0\n", messages)
	}
	require.NoError(t, a.stop())
}

func TestFilesAsArguments(t *testing.T) {
	folder := t.TempDir()
	store := "--store=" + filepath.Join(folder, "birthday.db")
	input, exported := filepath.Join(folder, "in.jsonl"), filepath.Join(folder, "out.csv")
	require.NoError(t, os.WriteFile(input, []byte(threePeople), 0o600))
	_, messages, code := command(t, "", "import", "--quiet", input, store)
	require.Zero(t, code)
	require.Empty(t, messages)
	_, messages, code = command(t, "", "export", "-q", exported, store)
	require.Zero(t, code)
	require.Empty(t, messages)
	content, err := os.ReadFile(exported)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(content), "username,dateOfBirth\nana,"), "the extension names the format")
	info, err := os.Stat(exported)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	files, err := filepath.Glob(filepath.Join(folder, ".*"))
	require.NoError(t, err)
	require.Empty(t, files, "nothing temporary is left")
}

func TestReportsForPrograms(t *testing.T) {
	folder := t.TempDir()
	store, copied := "--store="+filepath.Join(folder, "birthday.db"), filepath.Join(folder, "copy.db")
	for _, args := range [][]string{
		{"import", "--json", "-q", store},
		{"export", "--json", "-q", filepath.Join(folder, "all.csv"), store},
		{"backup", "--json", "-q", copied, store},
		{"restore", "--json", "-q", "--force", copied, store},
		{"compact", "--json", "-q", store},
	} {
		stdout, messages, code := command(t, threePeople, args...)
		require.Zero(t, code, messages)
		require.Empty(t, messages)
		var report map[string]any
		require.NoError(t, json.Unmarshal([]byte(stdout), &report), args[0])
		require.True(t, report["people"] == 3.0 || report["taken"] == 3.0 || report["bytes"] == 67.0, stdout)
	}
	for _, args := range [][]string{{"export", "--json", store}, {"backup", "--json", "-", store}} {
		_, _, code := command(t, "", args...)
		require.Equal(t, 2, code)
	}
}

// TestDataIsNotWrittenOverAStoreOrADevice has a pipe of its own for a device: were one
// of the machine replaced, as root may do, nothing else would work there.
func TestDataIsNotWrittenOverAStoreOrADevice(t *testing.T) {
	folder := t.TempDir()
	path, link, pipe := filepath.Join(folder, "birthday.db"), filepath.Join(folder, "link"), filepath.Join(folder, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	_, _, code := command(t, threePeople, "import", "--store="+path)
	require.Zero(t, code)
	require.NoError(t, os.Symlink(filepath.Join(folder, "x"), link))
	a := start(t)
	other := filepath.Join(folder, "other.db")
	b := start(t, "--store="+other)
	for _, args := range [][]string{
		{"export", path, "--store=" + path},
		{"backup", path, "--store=" + path},
		{"export", link, "--store=" + path},
		{"backup", link, "--store=" + path},
		{"export", pipe, "--store=" + path},
		{"backup", pipe, "--store=" + path},
		{"backup", other, "--admin=" + a.internal},
		{"export", other, "--admin=" + a.internal},
	} {
		_, messages, code := command(t, "", args...)
		require.Equal(t, 2, code, "%v: %s", args, messages)
	}
	require.Equal(t, "204 ", b.put("ana", "1990-05-17"))
	require.NoError(t, a.stop())
	require.NoError(t, b.stop())
	exported, _, _ := command(t, "", "export", "--store="+path)
	require.Equal(t, threePeople, exported)
}

func TestACopyOfTheFutureDoesNotCount(t *testing.T) {
	copies := t.TempDir()
	future := filepath.Join(copies, "birthday-20990101T000000Z.db")
	require.NoError(t, os.WriteFile(future, nil, 0o600))
	stale := filepath.Join(copies, ".birthday-1.copy")
	require.NoError(t, os.WriteFile(stale, nil, 0o600))
	old := time.Now().Add(-2 * time.Hour)
	require.NoError(t, os.Chtimes(stale, old, old))
	a := start(t, "--backup-dir="+copies, "--backup-every=1h", "--backup-keep=1")
	require.Eventually(t, func() bool { return strings.Contains(a.stderr.String(), "made a scheduled backup") }, 10*time.Second, time.Millisecond)
	require.NotContains(t, a.get(a.internal+"/metrics"), "\nbirthday_backup_timestamp_seconds 0\n")
	require.NoError(t, a.stop())
	require.Equal(t, 1, strings.Count(a.stderr.String(), "made a scheduled backup"))
	require.FileExists(t, future)
	require.NoFileExists(t, stale, "what a crash left is removed")
}

func TestAnIdleImportDoesNotHoldUpAStop(t *testing.T) {
	a := start(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(a.internal, "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "POST /import HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n")
	require.NoError(t, err)
	time.Sleep(50 * time.Millisecond) // until it is at work; a stop that comes first is as good
	begin := time.Now()
	require.NoError(t, a.stop())
	require.Less(t, time.Since(begin), 10*time.Second)
}

func TestDataCommandsFailClearly(t *testing.T) {
	folder := t.TempDir()
	none := "--store=" + filepath.Join(folder, "none.db")
	nobody := "--admin=http://127.0.0.1:1"
	damaged := filepath.Join(folder, "damaged.db")
	require.NoError(t, os.WriteFile(damaged, []byte("x"), 0o600))
	tests := []struct {
		what  string
		args  []string
		input string
		code  int
		why   string
	}{
		{"export of no store", []string{"export", none}, "", 1, "there is no store at"},
		{"export in no format", []string{"export", "--format=xml", none}, "", 2, "xml"},
		{"export to no folder", []string{"export", "/no/such/folder/x.csv", none}, "", 1, "write /no/such/folder/x.csv: no such"},
		{"export from nobody", []string{"export", nobody}, "", 1, "connection refused"},
		{"export of a damaged store", []string{"export", "--store=" + damaged}, "", 5, "cannot be used"},
		{"import of no file", []string{"import", "/no/such/file.csv", none}, "", 1, "/no/such/file.csv"},
		{"import of nothing known", []string{"import", none}, "hello\n", 2, "--format"},
		{"import of a broken header", []string{"import", "--format=csv", "--store=" + filepath.Join(t.TempDir(), "x.db")}, "name,date\n", 1, "username,dateOfBirth"},
		{"import to nobody", []string{"import", nobody}, threePeople, 1, "connection refused"},
		{"backup of no store", []string{"backup", filepath.Join(folder, "b.db"), none}, "", 1, "none.db"},
		{"backup to no folder", []string{"backup", "/no/such/folder/b.db", nobody}, "", 1, "backup to /no/such/folder/b.db: "},
		{"backup without a file", []string{"backup", none}, "", 2, "accepts 1 arg"},
		{"backup from nobody", []string{"backup", "-", nobody}, "", 1, "connection refused"},
		{"restore of no copy", []string{"restore", filepath.Join(folder, "b.db"), none}, "", 1, "b.db"},
		{"restore of a damaged copy", []string{"restore", damaged, none}, "", 5, "cannot be used"},
		{"compact of no store", []string{"compact", none}, "", 1, "none.db"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			_, messages, code := command(t, tt.input, tt.args...)
			require.Equal(t, tt.code, code, messages)
			require.Contains(t, messages, tt.why)
			require.NotContains(t, messages, ".birthday-", "nobody knows the name of a temporary file")
		})
	}
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{damaged}, files, "a failed command leaves nothing behind")
}

// TestImportWarnsOfFurtherColumns has what Excel writes in many countries.
func TestImportWarnsOfFurtherColumns(t *testing.T) {
	const (
		input   = "\ufeffemail;DateOfBirth;Username\r\nx;1990-05-17;ana\r\n"
		warning = "columns beside username and dateOfBirth, which are ignored: 1"
	)
	service := start(t)
	for _, where := range []string{"--store=" + filepath.Join(t.TempDir(), "birthday.db"), "--admin=" + service.internal} {
		stdout, messages, code := command(t, input, "import", "--json", where)
		require.Zero(t, code, messages)
		require.JSONEq(t, `{"taken": 1, "refused": 0, "refusals": null, "warnings": ["`+warning+`"]}`, stdout)
		require.Equal(t, "taken: 1, refused: 0\nwarning: "+warning+"\n", messages)
		_, messages, code = command(t, input, "import", "--quiet", where)
		require.Zero(t, code)
		require.Empty(t, messages)
	}
	require.NoError(t, service.stop())
}

// TestErrorsNameTheFileThatWasAskedFor closes the temporary file early, which
// stands for every trouble with it.
func TestErrorsNameTheFileThatWasAskedFor(t *testing.T) {
	folder := t.TempDir()
	closed := func(out io.Writer) error {
		file, ok := out.(io.WriteCloser)
		require.True(t, ok)
		require.NoError(t, file.Close())
		_, err := io.WriteString(file, "x")
		return err
	}
	path := filepath.Join(folder, "people.csv")
	err := writeFile(world{}, path, closed)
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorContains(t, err, "write "+path+": ")
	require.NotContains(t, err.Error(), ".birthday-")
	_, _, err = makeCopy(t.Context(), folder, false, verifyFile, closed)
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorContains(t, err, "make a copy: write the copy: ")
	require.NotContains(t, err.Error(), ".birthday-")
	_, _, err = makeCopy(t.Context(), folder, false, verifyFile, func(io.Writer) error { return nil })
	require.ErrorIs(t, err, bolt.ErrDamaged)
	require.ErrorContains(t, err, "verify the copy: ")
	require.NotContains(t, err.Error(), ".birthday-")
	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, files)
}

func TestALockedStoreNamesTheWayOut(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "birthday.db")
	s, err := bolt.Open(path, bolt.Options{})
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	for _, tt := range []struct {
		canAsk bool
		args   []string
	}{
		{true, []string{"export"}},
		{true, []string{"import"}},
		{true, []string{"backup", filepath.Join(folder, "b.db")}},
		{false, []string{"compact"}},
		{false, []string{"restore", path}},
		{false, []string{"serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, messages, code := command(t, threePeople, append(tt.args, "--store="+path)...)
			require.Equal(t, 4, code, "%v: %s", tt.args, messages)
			require.Contains(t, messages, "stop that process, or name another file with --store")
			require.Equal(t, tt.canAsk, strings.Contains(messages, "--admin "), "%v: %s", tt.args, messages)
		})
	}
}

func TestDataOfARunningService(t *testing.T) {
	folder := t.TempDir()
	a := start(t)
	running := "--admin=" + a.internal
	_, messages, code := command(t, threePeople, "import", running)
	require.Zero(t, code, messages)
	require.Contains(t, messages, "taken: 3, refused: 0")
	require.Contains(t, a.get(a.public+"/hello/bob"), "200 ")
	_, messages, code = command(t, "username,dateOfBirth\nx7,1990-05-17\nnew,1990-05-17\n", "import", running)
	require.Equal(t, 3, code)
	require.Contains(t, messages, "line 2: INVALID_USERNAME")
	_, messages, code = command(t, "name\n", "import", "--format=csv", running)
	require.Equal(t, 1, code)
	require.Contains(t, messages, "400 Bad Request")

	exported, messages, code := command(t, "", "export", running)
	require.Zero(t, code, messages)
	require.Equal(t, strings.Replace(threePeople, "{\"username\": \"Ána\"", "{\"username\": \"new\", \"dateOfBirth\": \"1990-05-17\"}\n{\"username\": \"Ána\"", 1), exported)
	require.Equal(t, "200 "+exported, a.get(a.internal+"/export"))

	path := filepath.Join(folder, "copy.db")
	_, messages, code = command(t, "", "backup", path, running)
	require.Zero(t, code, messages)
	require.Contains(t, messages, "people: 4")
	piped, _, code := command(t, "", "backup", "-", "--compact", running)
	require.Zero(t, code)
	require.NoError(t, os.WriteFile(path+".piped", []byte(piped), 0o600))
	require.NoError(t, a.stop())

	for _, copied := range []string{path, path + ".piped"} {
		restored := "--store=" + filepath.Join(folder, filepath.Base(copied)+".restored")
		_, messages, code = command(t, "", "restore", copied, restored)
		require.Zero(t, code, messages)
		same, _, _ := command(t, "", "export", restored)
		require.Equal(t, exported, same)
	}
	left, err := filepath.Glob(filepath.Join(folder, ".*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestDataNeedsTheAdminToken(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(tokens, []byte("# ours\nadmin-token\n"), 0o600))
	a := start(t, "--admin-tokens-file="+tokens)
	_, messages, code := command(t, "", "export", "--admin="+a.internal)
	require.Equal(t, 1, code)
	require.Contains(t, messages, "401 Unauthorized")
	_, messages, code = command(t, "", "export", "--admin="+a.internal, "--admin-tokens-file="+tokens)
	require.Zero(t, code, messages)
	require.NoError(t, os.Remove(tokens))
	require.NoError(t, syscall.Mkfifo(tokens, 0o600)) // which nobody writes into
	_, messages, code = command(t, "", "export", "--admin="+a.internal, "--admin-tokens-file="+tokens)
	require.Equal(t, 1, code)
	require.Contains(t, messages, "it is not a regular file; name one")
	require.NoError(t, a.stop())
}

// TestDataIsClosedOffLoopback listens on every interface, and asks by loopback.
func TestDataIsClosedOffLoopback(t *testing.T) {
	everywhere := func(w *world) {
		w.listen = func(string, string) (net.Listener, error) { return net.Listen("tcp", "0.0.0.0:0") }
	}
	b := startWith(t, everywhere)
	internal := strings.Replace(b.internal, "[::]", "127.0.0.1", 1)
	for _, path := range []string{"/export", "/backup"} {
		require.Contains(t, b.get(internal+path), "403 this needs --admin-tokens-file")
	}
	require.Contains(t, call("POST", internal+"/import", threePeople), "403 ")
	require.NoError(t, b.stop())
}

// TestErasedPeopleLeaveTheFile reads the raw bytes: of the file after compact,
// and of a clean copy of a running service.
func TestErasedPeopleLeaveTheFile(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "birthday.db")
	a := start(t, "--store="+path)
	require.Equal(t, "204 ", a.put("kanarienvogel", "1990-05-17"))
	require.Equal(t, "204 ", a.put("bob", "1990-05-17"))
	require.Equal(t, "204 ", call("DELETE", a.public+"/hello/kanarienvogel", ""))
	clean := filepath.Join(folder, "clean.db")
	_, messages, code := command(t, "", "backup", "--compact", clean, "--admin="+a.internal)
	require.Zero(t, code, messages)
	require.NoError(t, a.stop())
	holds := func(file string) bool {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		return bytes.Contains(content, []byte("kanarienvogel"))
	}
	require.True(t, holds(path), "a delete alone leaves bytes behind")
	require.False(t, holds(clean))
	_, messages, code = command(t, "", "compact", "--store="+path)
	require.Zero(t, code, messages)
	require.Contains(t, messages, "people: 1")
	require.False(t, holds(path))
}

func TestAnInterruptChangesNothing(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "birthday.db")
	_, _, code := command(t, threePeople, "import", "--store="+path)
	require.Zero(t, code)
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range [][]string{
		{"compact"},
		{"backup", filepath.Join(folder, "copy.db")},
		{"backup", "--compact", filepath.Join(folder, "copy.db")},
		{"export", filepath.Join(folder, "people.csv")},
	} {
		var out testkit.Output
		err := run(interrupted, testWorld(&out, &out, nil, append(args, "--store="+path)...))
		require.Equal(t, 130, exitCode(err), "%v: %v", args, err)
		files, err := filepath.Glob(filepath.Join(folder, "*"))
		require.NoError(t, err)
		require.Equal(t, []string{path}, files, args)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, before, after, args)
	}
}

func TestScheduledCopies(t *testing.T) {
	folder := t.TempDir()
	copies := filepath.Join(folder, "copies")
	require.NoError(t, os.Mkdir(copies, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(copies, "birthday-of-ana-T-Z.db"), nil, 0o600))
	a := start(t, "--backup-dir="+copies, "--backup-every=1s", "--backup-keep=2")
	require.Equal(t, "204 ", a.put("ana", "1990-05-17"))
	require.Eventually(t, func() bool { return strings.Count(a.stderr.String(), "made a scheduled backup") >= 4 }, 20*time.Second, 20*time.Millisecond)
	metrics := a.get(a.internal + "/metrics")
	require.NoError(t, a.stop())
	var stamp float64
	_, after, _ := strings.Cut(metrics, "\nbirthday_backup_timestamp_seconds ")
	_, err := fmt.Sscan(after, &stamp)
	require.NoError(t, err)
	require.InDelta(t, time.Now().Unix(), stamp, 10) //nolint:forbidigo // the metric is of the wall clock
	files, err := filepath.Glob(filepath.Join(copies, "birthday-2*.db"))
	require.NoError(t, err)
	require.Len(t, files, 2, "the newest are kept")
	require.FileExists(t, filepath.Join(copies, "birthday-of-ana-T-Z.db"), "and what is none of ours")
	report, err := bolt.Verify(files[1])
	require.NoError(t, err)
	require.Equal(t, 1, report.People)
}

func TestACopyThatFailsIsToldAndTriedAgain(t *testing.T) {
	copies := filepath.Join(t.TempDir(), "later", "copies")
	a := start(t, "--backup-dir="+copies, "--backup-every=1s")
	require.Eventually(t, func() bool { return strings.Contains(a.stderr.String(), "scheduled backup failed") }, 10*time.Second, 10*time.Millisecond)
	require.Contains(t, a.get(a.internal+"/metrics"), "\nbirthday_backup_timestamp_seconds 0\n")
	require.NoError(t, os.MkdirAll(copies, 0o700))
	require.Eventually(t, func() bool { return strings.Contains(a.stderr.String(), "made a scheduled backup") }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, a.stop())
}

func TestTheFolderOfTheCopiesIsMade(t *testing.T) {
	copies := filepath.Join(t.TempDir(), "copies")
	a := start(t, "--backup-dir="+copies)
	require.Eventually(t, func() bool { return strings.Contains(a.stderr.String(), "made a scheduled backup") }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, a.stop())
	info, err := os.Stat(copies)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), "copies are personal data")
}
