//go:build linux

package e2e_test

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
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

// This file makes the recording of TestPowerCuts: it runs the program under
// strace, has clients write, and reads the trace.

// powercutRecording is what happened, by the numbers of the trace's lines.
type powercutRecording struct {
	store    string // the store's name
	times    []time.Time
	cuts     []int // lines before which a cut makes a difference
	changes  []powercutChange
	syncs    []powercutSync
	attempts map[string][]powercutAttempt // by username; one client writes each, so they are in order
	writes   int
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

// powercutSync makes durable what ended before it began.
type powercutSync struct {
	begin, end int
	folder     bool
	file       int
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
	begun, acknowledged time.Time
}

// powercutRecord runs the program under strace with four clients, and stops it.
func powercutRecord(t *testing.T, seed uint64) powercutRecording {
	t.Helper()
	folder, trace := t.TempDir(), filepath.Join(t.TempDir(), "trace")
	r := powercutRecording{store: "birthday.db"}
	strace := launch{wrapper: []string{
		"strace", "-D", "-f", "-y", "-qq", "-xx", "-ttt", "-s", "1000000", "-o", trace, // -D: signals go to the program
		"-e", "trace=openat,pwrite64,write,ftruncate,fsync,fdatasync,linkat,link,rename,renameat,renameat2,unlink,unlinkat",
	}}
	s := strace.serve(t, filepath.Join(folder, r.store))
	r.attempts = powercutClients(t, s.public, seed)
	s.stop(t)
	r.parse(t, trace, folder)
	for _, attempts := range r.attempts {
		r.writes += len(attempts)
	}
	made := slices.IndexFunc(r.changes, func(c powercutChange) bool { return c.name == r.store })
	require.True(t, slices.ContainsFunc(r.changes[made:], func(c powercutChange) bool { return c.what == powercutResize }),
		"the recording has the file grow")
	return r
}

// powercutClients writes, each client to usernames of its own, and gives what it
// did by username.
func powercutClients(t *testing.T, address string, seed uint64) map[string][]powercutAttempt {
	t.Helper()
	const clients, writes = 4, 50
	var all [clients]map[string][]powercutAttempt
	var errs [clients]error
	var running sync.WaitGroup
	for c := range clients {
		running.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(c)))
			mine := map[string][]powercutAttempt{}
			all[c] = mine
			http := &client{address: address}
			defer http.close()
			for n := range writes {
				letter := func(n int) string { return string(rune('a' + n)) }
				name := letter(random.IntN(26)) + letter(random.IntN(26)) + letter(c) + strings.Repeat("é", 61) // long, so that the file grows
				if n > writes/3 && random.IntN(3) == 0 {
					name = powercutAny(random, mine)
				}
				a := powercutAttempt{born: aDate(n), begun: time.Now()}
				var status int
				if before := mine[name]; len(before) > 0 && before[len(before)-1].born != "" && random.IntN(4) == 0 {
					a.born = ""
					status, errs[c] = http.delete(url.PathEscape(name))
				} else {
					status, errs[c] = http.put(url.PathEscape(name), a.born)
				}
				if errs[c] == nil && status != 204 {
					errs[c] = fmt.Errorf("status %d", status)
				}
				if errs[c] != nil {
					return
				}
				a.acknowledged = time.Now()
				mine[name] = append(mine[name], a)
			}
		})
	}
	running.Wait()
	require.NoError(t, errors.Join(errs[:]...))
	merged := map[string][]powercutAttempt{}
	for _, mine := range all {
		for name, attempts := range mine {
			merged[name] = attempts
		}
	}
	return merged
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
	powercutCall    = regexp.MustCompile(`^(\w+)\((.*)\) += (-?\d+)`)
)

// parse reads the trace. A call that another thread interrupts is on two lines:
// it begins with one and ends with the other.
func (r *powercutRecording) parse(t *testing.T, trace, folder string) {
	t.Helper()
	content, err := os.ReadFile(trace)
	require.NoError(t, err)
	type open struct {
		text  string
		begin int
	}
	unfinished := map[string]open{} // by thread
	p := powercutParser{t: t, r: r, folder: folder, names: map[string]int{}}
	for line := range strings.Lines(string(content)) {
		parts := powercutLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		require.NotNil(t, parts, "a line of strace: %.200s", line)
		thread, text := parts[1], parts[4]
		sec, _ := strconv.ParseInt(parts[2], 10, 64)
		micro, _ := strconv.ParseInt(parts[3], 10, 64)
		number := len(r.times)
		r.times = append(r.times, time.Unix(sec, micro*1000))
		begin := number
		if head, cut := strings.CutSuffix(text, " <unfinished ...>"); cut {
			unfinished[thread] = open{head, number}
			continue
		}
		if rest := powercutResumed.FindStringSubmatch(text); rest != nil {
			text, begin = unfinished[thread].text+rest[1], unfinished[thread].begin
		}
		if call := powercutCall.FindStringSubmatch(text); call != nil {
			result, _ := strconv.Atoi(call[3])
			p.call(call[1], strings.Split(call[2], ", "), result, begin, number)
		}
	}
	slices.SortStableFunc(r.changes, func(a, b powercutChange) int { return cmp.Compare(a.begin, b.begin) })
	for _, c := range r.changes {
		r.cuts = append(r.cuts, c.begin, c.end, c.end+1)
	}
	for _, s := range r.syncs {
		r.cuts = append(r.cuts, s.begin, s.end, s.end+1)
	}
	slices.Sort(r.cuts)
	r.cuts = slices.Compact(r.cuts)
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
		p.r.syncs = append(p.r.syncs, powercutSync{begin: begin, end: end, folder: true})
		return
	}
	name, ours := p.inFolder(path)
	if !ours {
		return
	}
	require.GreaterOrEqual(p.t, result, 0, "%s of %s", what, name)
	number := func(i int) int64 {
		n, err := strconv.ParseInt(args[i], 10, 64)
		require.NoError(p.t, err)
		return n
	}
	switch what {
	case "pwrite64":
		data := powercutText(args[1], `"`, `"`)
		require.Len(p.t, data, result)
		add(powercutChange{what: powercutWrite, file: p.file(name), data: []byte(data), at: number(3)})
	case "ftruncate":
		add(powercutChange{what: powercutResize, file: p.file(name), at: number(1)})
	case "fsync", "fdatasync":
		p.r.syncs = append(p.r.syncs, powercutSync{begin: begin, end: end, file: p.file(name)})
	default:
		require.Fail(p.t, "not a call that the parser knows", "%s of %s", what, name)
	}
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
