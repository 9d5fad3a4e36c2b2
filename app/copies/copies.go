// Package copies makes copies of an open bbolt store on a schedule, and keeps the
// newest. It removes nothing but copies of that very store: a copy has the store's
// name and its id, and was not opened as a store since. Whatever hangs or fails in
// their folder, nobody but the copies waits for it.
package copies

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"birthday-demo/app/store/bolt"
)

// Copy is a copy of a store.
type Copy struct {
	Path string
	Made time.Time
}

// timeLayout is the time in a copy's name, in UTC.
const timeLayout = "20060102T150405Z"

// name returns the name of a copy of the store at path: birthday-20260102T150405Z.db
// for birthday.db.
func name(storePath string, made time.Time) string {
	base, extension := nameParts(storePath)
	return base + "-" + made.UTC().Format(timeLayout) + extension
}

func nameParts(storePath string) (base, extension string) {
	file := filepath.Base(storePath)
	extension = filepath.Ext(file)
	return strings.TrimSuffix(file, extension), extension
}

// madeAt returns when a file of this name was made, if it is named as a copy of the
// store.
func madeAt(file, storePath string) (time.Time, bool) {
	base, extension := nameParts(storePath)
	text, ours := strings.CutPrefix(file, base+"-")
	text, ends := strings.CutSuffix(text, extension)
	made, err := time.Parse(timeLayout, text)
	return made, ours && ends && err == nil
}

// List returns the copies in a folder of the store at path with this id, the oldest
// first, and how many files have the name of one and are none, or cannot be read.
// Those of the future, from when a clock was wrong, are left out.
func List(folder, storePath, id string, now time.Time) (found []Copy, unknown int, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, 0, fmt.Errorf("list the copies: %w", err)
	}
	for _, entry := range entries {
		made, named := madeAt(entry.Name(), storePath)
		path := filepath.Join(folder, entry.Name())
		switch {
		case !named, made.After(now):
		case isCopy(path, storePath, id):
			found = append(found, Copy{path, made})
		default:
			unknown++
		}
	}
	slices.SortFunc(found, func(a, b Copy) int { return cmp.Compare(a.Path, b.Path) }) // names sort as times do
	return found, unknown, nil
}

// isCopy reports whether the file at path surely is a copy of the store.
func isCopy(path, storePath, id string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || id == "" {
		return false
	}
	if store, err := os.Stat(storePath); err == nil && os.SameFile(info, store) {
		return false
	}
	identity, err := bolt.Identify(path)
	return err == nil && identity == bolt.Identity{ID: id, Copy: true} && !bolt.InUse(path)
}
