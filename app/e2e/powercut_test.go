//go:build linux

package e2e_test

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/store/bolt"
)

// TestPowerCuts records with strace what the real program does to its files while
// clients write, then builds what the disk may hold after a power cut at any
// moment: all that was synced, and of the rest a random part. Each such image
// must verify, open, and hold what was acknowledged. The program maps its file
// for reading only, so the system calls are all that it does to it.
//
// What the disk may do is taken wide: writes that were not synced are there,
// missing, or torn at 512 bytes, in any combination; so are sizes and, until
// their folder is synced, names.
func TestPowerCuts(t *testing.T) {
	needs(t, "strace", "strace")
	images, seed := size(2_000, 20_000), seed(t)
	r := powercutRecord(t, seed)
	start := time.Now()
	sum := powercutJudge(t, r, seed, images, images)
	require.NoError(t, sum.first, "image %d of SEED=%d", sum.at, seed)
	require.Positive(t, sum.nameless, "some cuts come before the store has its name")
	require.Positive(t, sum.acknowledged)
	took := time.Since(start)

	made := slices.IndexFunc(r.syncs, func(s powercutSync) bool { return s.folder })
	var planted, caught []string
	for _, fault := range []struct {
		name string
		skip func(n int, s powercutSync) bool
	}{
		{"a commit without syncs", func(n int, s powercutSync) bool { return n > made && !s.folder }},
		{"without the sync of its data", func(n int, s powercutSync) bool { return n > made && !s.folder && !r.ofMeta(s) }},
		{"without the sync of its meta page", func(n int, s powercutSync) bool { return n > made && !s.folder && r.ofMeta(s) }},
		{"a new store without its syncs", func(n int, _ powercutSync) bool { return n < made }},
		{"without the sync of its folder", func(_ int, s powercutSync) bool { return s.folder }},
	} {
		faulty := r
		faulty.syncs = nil
		for n, s := range r.syncs {
			if !fault.skip(n, s) {
				faulty.syncs = append(faulty.syncs, s)
			}
		}
		found := powercutJudge(t, faulty, seed, images, 1)
		require.Error(t, found.first, "%s, and %d images do not show it", fault.name, images)
		t.Logf("%s: caught by image %d: %v", fault.name, found.at+1, found.first)
		planted = append(planted, fault.name)
		caught = append(caught, strconv.Itoa(found.at+1))
	}
	proof{Proof: "powercut", Figures: map[string]any{
		"images": images, "bad": 0, "seconds": took.Seconds(),
		"recorded_writes": r.writes, "recorded_changes": len(r.changes), "recorded_syncs": len(r.syncs),
		"images_before_the_store_is_there": sum.nameless, "acknowledged_writes_looked_for": sum.acknowledged,
		"sectors_lost": sum.lost, "planted_caught_by_image": strings.Join(caught, ", "),
	}, Planted: strings.Join(planted, "; "), Caught: true}.keep(t)
}

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

// powercutSum is what many images came to.
type powercutSum struct {
	first                        error // the image at fault with the lowest number
	at                           int
	nameless, acknowledged, lost int
}

// powercutJudge builds images and judges them, until limit faults. Image n is the
// same whenever seed and recording are.
func powercutJudge(t *testing.T, r powercutRecording, seed uint64, images, limit int) powercutSum {
	t.Helper()
	scratch := t.TempDir()
	results := make([]powercutSum, images)
	var next, faults atomic.Int64
	var workers sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for faults.Load() < int64(limit) {
				n := int(next.Add(1)) - 1
				if n >= images {
					return
				}
				folder := filepath.Join(scratch, fmt.Sprint(w))
				random := rand.New(rand.NewPCG(seed, uint64(n)))
				results[n] = r.image(folder, random)
				if results[n].first != nil {
					faults.Add(1)
				}
			}
		})
	}
	workers.Wait()
	var sum powercutSum
	for n, one := range results {
		if sum.first == nil && one.first != nil {
			sum.first, sum.at = one.first, n
		}
		sum.nameless += one.nameless
		sum.acknowledged += one.acknowledged
		sum.lost += one.lost
	}
	return sum
}

// image builds what a cut leaves in a folder, and judges it.
func (r powercutRecording) image(folder string, random *rand.Rand) (sum powercutSum) {
	cut := r.cuts[random.IntN(len(r.cuts))]
	if random.IntN(8) == 0 { // the making of the store is short, and worth a look
		cut = r.cuts[random.IntN(40)]
	}
	files, names := r.survivors(cut, random, &sum.lost)
	moment := time.Now()
	if cut < len(r.times) {
		moment = r.times[cut]
	}
	sum.first = func() error {
		if err := errors.Join(os.RemoveAll(folder), os.Mkdir(folder, 0o700)); err != nil {
			return err
		}
		for name, file := range names {
			if err := os.WriteFile(filepath.Join(folder, name), files[file], 0o600); err != nil {
				return err
			}
		}
		kept := map[string]string{}
		if _, exists := names[r.store]; !exists {
			sum.nameless++
		} else {
			var err error
			if kept, err = powercutRead(filepath.Join(folder, r.store)); err != nil {
				return err
			}
		}
		return r.audit(kept, moment, &sum.acknowledged)
	}()
	if sum.first != nil {
		sum.first = fmt.Errorf("cut before line %d of %d: %w", cut, len(r.times), sum.first)
	}
	return sum
}

// survivors gives the contents of files, and which file each name is of, after a
// cut.
func (r powercutRecording) survivors(cut int, random *rand.Rand, lost *int) (files map[int][]byte, names map[string]int) {
	files, names = map[int][]byte{}, map[string]int{}
	luck := []float64{0, 0.1, 0.5, 0.9, 1}[random.IntN(5)] // how much of what was not synced is there
	for _, c := range r.changes {
		if c.begin >= cut {
			break
		}
		sure := r.synced(c, cut)
		there := sure || random.Float64() < luck
		content := files[c.file]
		switch {
		case c.what == powercutWrite:
			torn := !sure && random.IntN(3) == 0
			for at := 0; at < len(c.data); at += 512 {
				if torn {
					there = random.Float64() < luck
				}
				if !there {
					*lost++
					continue
				}
				sector := c.data[at:min(at+512, len(c.data))]
				content = powercutSized(content, max(len(content), int(c.at)+at+len(sector)))
				copy(content[int(c.at)+at:], sector)
			}
			files[c.file] = content
		case !there:
		case c.what == powercutResize:
			files[c.file] = powercutSized(content, int(c.at))
		case c.what == powercutName:
			delete(names, c.from)
			names[c.name] = c.file
		case c.what == powercutUnname:
			delete(names, c.name)
		}
	}
	return files, names
}

// synced says whether a change is durable at a cut: a sync of its file, or of the
// folder that holds its name, began after it and ended before the cut.
func (r powercutRecording) synced(c powercutChange, cut int) bool {
	ofFolder := c.what == powercutName || c.what == powercutUnname
	return slices.ContainsFunc(r.syncs, func(s powercutSync) bool {
		return s.begin > c.end && s.end < cut && s.folder == ofFolder && (s.folder || s.file == c.file)
	})
}

// powercutSized cuts content off or fills it up with zeros.
func powercutSized(content []byte, size int) []byte {
	if size <= len(content) {
		return content[:size]
	}
	return append(content, make([]byte, size-len(content))...)
}

// powercutRead opens a store as the program does, and gives who is in it.
func powercutRead(path string) (kept map[string]string, err error) {
	if _, err := bolt.Verify(path); err != nil {
		return nil, err
	}
	store, err := bolt.Open(path, func(error) {})
	if err != nil {
		return nil, err
	}
	people, err := store.After(context.Background(), "", 1_000_000)
	kept = map[string]string{}
	for _, p := range people {
		kept[string(p.Username)] = p.Born.String()
	}
	return kept, errors.Join(err, store.Close())
}

// audit compares who is kept with what had been tried and acknowledged at a
// moment: the last that was acknowledged, or one that was tried after it.
func (r powercutRecording) audit(kept map[string]string, moment time.Time, acknowledged *int) error {
	for name := range kept {
		if _, known := r.attempts[name]; !known {
			return errors.New("there is someone whom nobody put")
		}
	}
	for name, attempts := range r.attempts {
		right := kept[name] == "" // as before the first attempt
		for _, a := range attempts {
			if a.begun.After(moment) {
				break
			}
			is := kept[name] == a.born
			if a.acknowledged.Before(moment) {
				right = is
				*acknowledged++
			} else {
				right = right || is
			}
		}
		if !right {
			return fmt.Errorf("an acknowledged write is lost, or one kept that was not tried: %.3s is %q", name, kept[name])
		}
	}
	return nil
}
