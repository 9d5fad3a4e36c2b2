package e2e_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDamageIsRefused flips bits of a real file, and cuts it off: the program
// either refuses the file or gives what is in it, and leaves it as it is.
func TestDamageIsRefused(t *testing.T) {
	n := seed(t)
	whole := aUsedFile(t)
	random := rand.New(rand.NewPCG(n, 0))
	damages := someDamages(random, len(whole), size(400, 0), size(50, 2_000))
	if long() {
		damages = append(damages, aBitOfEachByte(random, len(whole))...)
	}
	// And whatever chance says: the first meta page, nothing at all, one byte less.
	damages = append(damages, damage{at: 16, bit: 0}, damage{at: 0, cut: true}, damage{at: len(whole) - 1, cut: true})

	result := damageRun{whole: whole, damages: damages, check: true}
	result.run(t, launch{})
	require.Empty(t, result.wrong)
	require.Positive(t, result.refused)
	require.Positive(t, result.right)

	planted := damageRun{whole: whole, damages: someDamages(random, len(whole), 60, 10)}
	planted.run(t, asBroken("trusting"))
	require.NotEmpty(t, planted.wrong)
	t.Logf("the trusting reader was wrong %d of %d times; the first: %s", len(planted.wrong), len(planted.damages), planted.wrong[0])

	proof{
		Proof: "damaged",
		Figures: map[string]any{
			"seed": n, "bytes_of_file": len(whole), "damages": len(damages),
			"refused": result.refused, "right": result.right, "wrong": len(result.wrong),
		},
		Planted: "a reader that verifies nothing",
		Caught:  len(planted.wrong) > 0,
	}.keep(t)
}

// aUsedFile gives what is in a file that the service wrote: with people on some
// pages, and with free ones.
func aUsedFile(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "birthday.db")
	s := serve(t, path)
	c := &client{address: s.public}
	defer c.close()
	for i := range 300 {
		status, err := c.put("person"+letters(i), aDate(i*100))
		require.NoError(t, err)
		require.Equal(t, http.StatusNoContent, status)
		if i%5 == 4 {
			_, err = c.delete("person" + letters(i-2))
			require.NoError(t, err)
		}
	}
	s.stop(t)
	_, stderr, code := run(t, "check", "--store="+path, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
	require.Zero(t, code, stderr)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return content
}

// damage flips one bit of a file, or cuts the file off.
type damage struct {
	at  int
	bit int
	cut bool
}

func (d damage) do(whole []byte) []byte {
	if d.cut {
		return whole[:d.at]
	}
	content := bytes.Clone(whole)
	content[d.at] ^= 1 << d.bit
	return content
}

func someDamages(random *rand.Rand, length, flips, cuts int) (damages []damage) {
	for range flips {
		damages = append(damages, damage{at: random.IntN(length), bit: random.IntN(8)})
	}
	for range cuts {
		damages = append(damages, damage{at: random.IntN(length), cut: true})
	}
	return damages
}

func aBitOfEachByte(random *rand.Rand, length int) (damages []damage) {
	for at := range length {
		damages = append(damages, damage{at: at, bit: random.IntN(8)})
	}
	return damages
}

// damageRun lets a program read a file with each of the damages.
type damageRun struct {
	whole   []byte
	damages []damage
	check   bool // ask the check command about some of them, too

	mu             sync.Mutex
	refused, right int
	wrong          []string
}

func (r *damageRun) run(t *testing.T, l launch) {
	t.Helper()
	if l.program == "" {
		l.program = program(t)
	}
	folder := t.TempDir()
	path := filepath.Join(folder, "whole.db")
	require.NoError(t, os.WriteFile(path, r.whole, 0o600))
	want, stderr, code := l.run(t, "export", "--quiet", "--store="+path)
	require.Zero(t, code, stderr)
	require.NotEmpty(t, want)
	next := make(chan damage)
	var reading sync.WaitGroup
	for i := range runtime.GOMAXPROCS(0) {
		reading.Go(func() {
			path := filepath.Join(folder, fmt.Sprintf("damaged-%d.db", i))
			for d := range next {
				verdict := d.judge(t, l, path, r.whole, want)
				if r.check && d.at%16 == 0 && !checkAgrees(t, path, verdict) {
					verdict = "export says " + verdict + ", check does not"
				}
				r.mu.Lock()
				switch verdict {
				case "refused":
					r.refused++
				case "right":
					r.right++
				default:
					r.wrong = append(r.wrong, fmt.Sprintf("%+v: %s", d, verdict))
				}
				r.mu.Unlock()
			}
		})
	}
	for _, d := range r.damages {
		next <- d
	}
	close(next)
	reading.Wait()
}

// judge says what a program does with a damaged file.
func (d damage) judge(t *testing.T, l launch, path string, whole []byte, want string) string {
	content := d.do(whole)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err.Error()
	}
	got, stderr, code := l.run(t, "export", "--quiet", "--store="+path)
	after, err := os.ReadFile(path)
	switch {
	case err != nil:
		return err.Error()
	case !bytes.Equal(content, after):
		return "the file was changed"
	case code == 5 && got == "":
		return "refused"
	case code == 0 && got == want:
		return "right"
	case code == 0:
		return "exit code 0, and another answer"
	}
	return fmt.Sprintf("exit code %d, %.200s", code, stderr)
}

// checkAgrees says whether the check command has the same opinion of a file.
func checkAgrees(t *testing.T, path, verdict string) bool {
	_, _, code := run(t, "check", "--store="+path, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
	return code == map[string]int{"refused": 5, "right": 0}[verdict]
}
