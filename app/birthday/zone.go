package birthday

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // zones must load in images that carry no zone files
)

//go:generate sh -c "unzip -Z1 $(go env GOROOT)/lib/time/zoneinfo.zip | grep -v '/$' | LC_ALL=C sort > zones.txt"

// zoneNames lists the names of the embedded data base, sorted. The time package
// does not tell them, and would also load what a machine happens to have in its
// own folders: posix/…, localtime, other spellings on file systems that ignore
// case.
//
//go:embed zones.txt
var zoneNames string

// Zones turns names of the IANA time zone data base into zones. Build one with
// NewZones.
type Zones struct{ names []string }

// NewZones gives the zones of the embedded data base.
func NewZones() Zones { return Zones{strings.Fields(zoneNames)} }

// Parse gives the zone of that name. A name that is not in the data base,
// "Local" and "" among them, gives a Fault with InvalidTimezone.
func (z Zones) Parse(name string) (*time.Location, error) {
	if _, known := slices.BinarySearch(z.names, name); !known {
		return nil, zoneFault
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("load time zone %s: %w", name, err)
	}
	return zone, nil
}
