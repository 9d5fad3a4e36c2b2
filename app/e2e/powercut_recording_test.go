//go:build linux

package e2e_test

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// This file makes the recordings of TestPowerCuts: it runs the program under
// strace, has clients write, and reads the traces.

// powercutRecording is what happened, by the numbers of the traces' lines.
type powercutRecording struct {
	store    string // the store's name
	times    []time.Time
	starts   []int // the first line of each run of the program
	kills    int   // runs that ended so
	cuts     []int // lines before which a cut makes a difference
	changes  []powercutChange
	syncs    []powercutSync               // by begin
	attempts map[string][]powercutAttempt // by username; one client writes each, so they are in order
	writes   int
	unknown  int // of these, without an answer or with one that says nothing
}

type powercutKind int

const (
	powercutWrite  powercutKind = iota
	powercutResize              // of a file
	powercutName                // a file gets a name
	powercutUnname              // a name is removed
)

// powercutChange is a change of a file or of its folder, that lasts from one line
// of the trace to another.
type powercutChange struct {
	what       powercutKind
	begin, end int
	file       int    // which file, whatever its name
	data       []byte // of a write
	at         int64  // where it goes, or the new size
	name       string
	from       string // the name that it replaces: a rename
}

// powercutSync makes durable what ended before it began, unless it failed.
type powercutSync struct {
	begin, end int
	folder     bool
	file       int
	failed     bool
}

// ofMeta says whether a sync is the second of a commit, for one of the file's
// first two pages.
func (r powercutRecording) ofMeta(s powercutSync) bool {
	var last powercutChange
	for _, c := range r.changes {
		if c.file == s.file && c.end < s.begin {
			last = c
		}
	}
	return last.what == powercutWrite && last.at < 2*4096
}

// powercutAttempt is a PUT, or a DELETE when born is "".
type powercutAttempt struct {
	born                string
	begun, acknowledged time.Time // the latter is powercutNever when nobody knows
}

var powercutNever = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// powercutRecord runs the program under strace with four clients, and stops it.
func powercutRecord(t *testing.T, seed uint64) powercutRecording {
	t.Helper()
	l := newPowercutRecorder(t, seed)
	l.run(t, "", func(s *service, clients func(writes int)) {
		clients(50)
		s.stop(t)
	})
	r := l.recording(t)
	require.Zero(t, r.unknown)
	made := slices.IndexFunc(r.changes, func(c powercutChange) bool { return c.name == r.store })
	require.True(t, slices.ContainsFunc(r.changes[made:], func(c powercutChange) bool { return c.what == powercutResize }),
		"the recording has the file grow")
	return r
}

// powercutRecorder records runs of the program on one folder, one after another.
type powercutRecorder struct {
	seed    uint64
	parser  powercutParser
	clients [4]map[string][]powercutAttempt // by client, then by username
}

func newPowercutRecorder(t *testing.T, seed uint64) *powercutRecorder {
	t.Helper()
	l := &powercutRecorder{seed: seed, parser: powercutParser{
		t: t, r: &powercutRecording{store: "birthday.db"}, folder: t.TempDir(), names: map[string]int{},
	}}
	for c := range l.clients {
		l.clients[c] = map[string][]powercutAttempt{}
	}
	return l
}

// run records one run. When the program serves, use is called with what has the
// clients write; it returns when the program has ended. A fault, as strace's
// inject= takes it, may end the program before.
func (l *powercutRecorder) run(t *testing.T, fault string, use func(s *service, clients func(writes int))) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	strace := launch{wrapper: []string{
		"strace", "-D", "-f", "-y", "-q", "-xx", "-ttt", "-s", "1000000", "-o", trace, // -D: signals go to the program
		"-e", "trace=openat,pwrite64,write,ftruncate,fsync,fdatasync,linkat,link,rename,renameat,renameat2,unlink,unlinkat",
	}}
	if fault != "" {
		strace.wrapper = append(strace.wrapper, "-e", "inject="+fault)
	}
	s, err := strace.start(t, filepath.Join(l.parser.folder, l.parser.r.store))
	if fault == "" {
		require.NoError(t, err)
	}
	if err == nil {
		use(s, func(writes int) { l.write(t, s.public, writes) })
	}
	l.parser.read(trace)
}

// write has the clients write, each to usernames of its own, until something else
// than a success comes back.
func (l *powercutRecorder) write(t *testing.T, address string, writes int) {
	t.Helper()
	var running sync.WaitGroup
	for c, mine := range l.clients {
		running.Go(func() {
			random := rand.New(rand.NewPCG(l.seed, uint64(len(l.clients)*len(l.parser.r.starts)+c)))
			http := &client{address: address}
			defer http.close()
			for n := range writes {
				letter := func(n int) string { return string(rune('a' + n)) }
				name := letter(random.IntN(26)) + letter(random.IntN(26)) + letter(c) + strings.Repeat("é", 61) // long, so that the file grows
				if n > writes/3 && random.IntN(3) == 0 {
					name = powercutAny(random, mine)
				}
				a := powercutAttempt{born: aDate(n), begun: time.Now(), acknowledged: powercutNever}
				var status int
				var err error
				if powercutThere(mine[name]) && random.IntN(4) == 0 {
					a.born = ""
					status, err = http.delete(url.PathEscape(name))
				} else {
					status, err = http.put(url.PathEscape(name), a.born)
				}
				if err == nil && status == 204 {
					a.acknowledged = time.Now()
				} else if err == nil && status != 503 {
					t.Errorf("status %d", status)
				}
				mine[name] = append(mine[name], a)
				if a.acknowledged.Equal(powercutNever) {
					return
				}
			}
		})
	}
	running.Wait()
}

// powercutThere says whether attempts leave somebody for sure.
func powercutThere(attempts []powercutAttempt) bool {
	if len(attempts) == 0 {
		return false
	}
	last := attempts[len(attempts)-1]
	return last.born != "" && !last.acknowledged.Equal(powercutNever)
}

// recording gives all that was recorded, and compares it with what is in the folder.
func (l *powercutRecorder) recording(t *testing.T) powercutRecording {
	t.Helper()
	r := *l.parser.r
	r.attempts = map[string][]powercutAttempt{}
	for _, mine := range l.clients {
		for name, attempts := range mine {
			r.attempts[name] = attempts
			r.writes += len(attempts)
			for _, a := range attempts {
				if a.acknowledged.Equal(powercutNever) {
					r.unknown++
				}
			}
		}
	}
	r.sort()
	files, names := r.survivors(len(r.times)+1, 1, rand.New(rand.NewPCG(l.seed, 0)), new(int))
	entries, err := os.ReadDir(l.parser.folder)
	require.NoError(t, err)
	require.Len(t, entries, len(names))
	for name, file := range names {
		content, err := os.ReadFile(filepath.Join(l.parser.folder, name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, files[file]), "the recording of %s is whole", name)
	}
	return r
}

// sort puts changes and syncs in their order, and finds the cuts.
func (r *powercutRecording) sort() {
	slices.SortStableFunc(r.changes, func(a, b powercutChange) int { return cmp.Compare(a.begin, b.begin) })
	slices.SortStableFunc(r.syncs, func(a, b powercutSync) int { return cmp.Compare(a.begin, b.begin) })
	for _, c := range r.changes {
		r.cuts = append(r.cuts, c.begin, c.end, c.end+1)
	}
	for _, s := range r.syncs {
		r.cuts = append(r.cuts, s.begin, s.end, s.end+1)
	}
	slices.Sort(r.cuts)
	r.cuts = slices.Compact(r.cuts)
}

// powercutAny gives one of the usernames, the same one for the same seed.
func powercutAny(random *rand.Rand, of map[string][]powercutAttempt) string {
	names := make([]string, 0, len(of))
	for name := range of {
		names = append(names, name)
	}
	slices.Sort(names)
	return names[random.IntN(len(names))]
}

var (
	powercutLine    = regexp.MustCompile(`^(\d+) +(\d+)\.(\d{6}) (.*)$`)
	powercutResumed = regexp.MustCompile(`^<\.\.\. \w+ resumed>(.*)$`)
	powercutCall    = regexp.MustCompile(`^(\w+)\((.*)\) += (-?\d+|\?)`)
)

// read reads the trace of one more run. A call that another thread interrupts is on
// two lines: it begins with one and ends with the other. Of a call that the end of
// the program interrupts, the second may be missing, and its result is unknown.
func (p *powercutParser) read(trace string) {
	content, err := os.ReadFile(trace)
	require.NoError(p.t, err)
	type open struct {
		text  string
		begin int
	}
	unfinished, killed := map[string]open{}, false // by thread
	p.r.starts = append(p.r.starts, len(p.r.times))
	for line := range strings.Lines(string(content)) {
		parts := powercutLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		require.NotNil(p.t, parts, "a line of strace: %.200s", line)
		thread, text := parts[1], parts[4]
		sec, _ := strconv.ParseInt(parts[2], 10, 64)
		micro, _ := strconv.ParseInt(parts[3], 10, 64)
		number := len(p.r.times)
		p.r.times = append(p.r.times, time.Unix(sec, micro*1000)) //nolint:forbidigo // strace wrote it
		begin := number
		if head, cut := strings.CutSuffix(text, " <unfinished ...>"); cut {
			unfinished[thread] = open{head, number}
			continue
		}
		if rest := powercutResumed.FindStringSubmatch(text); rest != nil {
			text, begin = unfinished[thread].text+rest[1], unfinished[thread].begin
			delete(unfinished, thread)
		}
		if text == "+++ killed by SIGKILL +++" && !killed {
			killed = true
			p.r.kills++
		}
		p.line(text, begin, number)
	}
	for _, u := range unfinished {
		p.line(u.text+") = ?", u.begin, len(p.r.times)-1)
	}
}

// line takes down a call as strace writes it.
func (p *powercutParser) line(text string, begin, end int) {
	call := powercutCall.FindStringSubmatch(text)
	if call == nil {
		return
	}
	what, args := call[1], strings.Split(call[2], ", ")
	result, err := strconv.Atoi(call[3])
	if err != nil {
		var done bool
		if result, done = p.interrupted(what, args); !done {
			return
		}
	}
	p.call(what, args, result, begin, end)
}

// powercutParser knows which file has which name as the program sees it.
type powercutParser struct {
	t      *testing.T
	r      *powercutRecording
	folder string
	names  map[string]int
	files  int
}

// call takes down what a system call did to the folder or a file in it.
func (p *powercutParser) call(what string, args []string, result, begin, end int) {
	add := func(c powercutChange) {
		c.begin, c.end = begin, end
		p.r.changes = append(p.r.changes, c)
	}
	switch what {
	case "openat":
		name, ours := p.inFolder(powercutText(args[1], `"`, `"`))
		if _, exists := p.names[name]; ours && !exists && result >= 0 && strings.Contains(args[2], "O_CREAT") {
			p.names[name] = p.files
			add(powercutChange{what: powercutName, file: p.files, name: name})
			p.files++
		}
		require.False(p.t, ours && strings.Contains(args[2], "O_TRUNC"), "not a call that the parser knows")
	case "pwrite64", "write", "ftruncate", "fsync", "fdatasync":
		p.onFile(what, args, result, begin, end, add)
	case "link", "linkat", "rename", "renameat", "renameat2":
		old, new := args[0], args[1]
		if len(args) > 2 {
			old, new = args[1], args[3]
		}
		from, ours := p.inFolder(powercutText(old, `"`, `"`))
		to, _ := p.inFolder(powercutText(new, `"`, `"`))
		if !ours || result != 0 {
			return
		}
		c := powercutChange{what: powercutName, file: p.file(from), name: to}
		p.names[to] = c.file
		if strings.HasPrefix(what, "rename") {
			c.from = from
			delete(p.names, from)
		}
		add(c)
	case "unlink", "unlinkat":
		name, ours := p.inFolder(powercutText(args[max(0, len(args)-2)], `"`, `"`))
		if ours && result == 0 {
			delete(p.names, name)
			add(powercutChange{what: powercutUnname, name: name})
		}
	}
}

// onFile takes down a call whose first argument is an open file.
func (p *powercutParser) onFile(what string, args []string, result, begin, end int, add func(powercutChange)) {
	path := powercutText(args[0][strings.IndexByte(args[0], '<'):], "<", ">")
	if path == p.folder {
		p.r.syncs = append(p.r.syncs, powercutSync{begin: begin, end: end, folder: true, failed: result != 0})
		return
	}
	name, ours := p.inFolder(path)
	if !ours {
		return
	}
	if result < 0 && what != "fsync" && what != "fdatasync" { // a kill interrupted it, and nothing was done
		return
	}
	number := func(i int) int64 {
		n, err := strconv.ParseInt(args[i], 10, 64)
		require.NoError(p.t, err)
		return n
	}
	switch what {
	case "pwrite64":
		data := powercutText(args[1], `"`, `"`)
		add(powercutChange{what: powercutWrite, file: p.file(name), data: []byte(data)[:result], at: number(3)})
	case "ftruncate":
		add(powercutChange{what: powercutResize, file: p.file(name), at: number(1)})
	case "fsync", "fdatasync":
		p.r.syncs = append(p.r.syncs, powercutSync{begin: begin, end: end, file: p.file(name), failed: result != 0})
	default:
		require.Fail(p.t, "not a call that the parser knows", "%s of %s", what, name)
	}
}

// interrupted says, of a call that the program did not come back from, whether it was
// done, and gives its result. Of a write the file shows it; a sync counts for nothing.
func (p *powercutParser) interrupted(what string, args []string) (result int, done bool) {
	if what != "pwrite64" && what != "ftruncate" {
		return 0, false
	}
	name, ours := p.inFolder(powercutText(args[0][strings.IndexByte(args[0], '<'):], "<", ">"))
	if !ours {
		return 0, false
	}
	content, err := os.ReadFile(filepath.Join(p.folder, name))
	require.NoError(p.t, err)
	at, err := strconv.Atoi(args[len(args)-1])
	require.NoError(p.t, err)
	if what == "ftruncate" {
		return 0, len(content) == at
	}
	data := powercutText(args[1], `"`, `"`)
	return len(data), at <= len(content) && bytes.HasPrefix(content[at:], []byte(data))
}

func (p *powercutParser) file(name string) int {
	file, known := p.names[name]
	require.True(p.t, known, "a file that nobody made: %s", name)
	return file
}

func (p *powercutParser) inFolder(path string) (name string, ours bool) {
	return filepath.Base(path), filepath.Dir(path) == p.folder
}

// powercutText decodes a string of strace -xx.
func powercutText(text, before, after string) string {
	text = strings.TrimSuffix(strings.TrimPrefix(text, before), after)
	raw, err := hex.DecodeString(strings.ReplaceAll(text, `\x`, ""))
	if err != nil {
		return ""
	}
	return string(raw)
}
