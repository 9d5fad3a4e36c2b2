package birthday

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"
)

//go:generate sh -c "cp $(go env GOROOT)/lib/time/zoneinfo.zip ."

// zoneInfo is the IANA time zone data base, as the Go distribution packs it.
// time.LoadLocation would first take what the machine has, of whatever age, under
// names that are no zones (posix/…, localtime) and in any spelling where the file
// system ignores case.
//
//go:embed zoneinfo.zip
var zoneInfo []byte

// Zones turns names of the embedded time zone data base into zones. Build one
// with NewZones; it is safe for concurrent use.
type Zones struct {
	archive *zip.Reader
	loaded  sync.Map // of *time.Location by name: never more than the data base has
}

// NewZones opens the data base.
func NewZones() *Zones {
	archive, err := zip.NewReader(bytes.NewReader(zoneInfo), int64(len(zoneInfo)))
	if err != nil {
		panic(err) // it was built in so, and every test would show it
	}
	return &Zones{archive: archive}
}

// Parse gives the zone of that name. A name that is not in the data base,
// "Local" and "" among them, gives a Fault with InvalidTimezone.
func (z *Zones) Parse(name string) (*time.Location, error) {
	if zone, ok := z.loaded.Load(name); ok {
		return zone.(*time.Location), nil
	}
	file, err := z.archive.Open(name)
	if err != nil {
		return nil, zoneFault
	}
	defer func() { _ = file.Close() }() // it is memory
	if info, err := file.Stat(); err != nil || info.IsDir() {
		return nil, zoneFault
	}
	return z.load(name, file)
}

// load reads a zone and remembers it.
func (z *Zones) load(name string, file fs.File) (*time.Location, error) {
	data, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("read time zone %s: %w", name, err)
	}
	zone, err := time.LoadLocationFromTZData(name, data)
	if err != nil {
		return nil, fmt.Errorf("read time zone %s: %w", name, err)
	}
	z.loaded.Store(name, zone)
	return zone, nil
}
