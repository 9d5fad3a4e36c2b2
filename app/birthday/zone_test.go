package birthday_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
)

func TestEveryZoneLoads(t *testing.T) {
	list, err := os.ReadFile("zones.txt")
	require.NoError(t, err)
	names := strings.Fields(string(list))
	require.Greater(t, len(names), 590)
	require.IsIncreasing(t, names)
	zones := birthday.NewZones()
	for _, name := range names {
		zone, err := zones.Parse(name)
		require.NoError(t, err)
		require.Equal(t, name, zone.String())
	}
}

func TestParseZoneRefuses(t *testing.T) {
	zones := birthday.NewZones()
	for _, name := range []string{
		"", "Local", "local", "localtime", "posix/Asia/Tokyo", "right/Asia/Tokyo", "posixrules",
		"/usr/share/zoneinfo/Asia/Tokyo", "../zoneinfo/Asia/Tokyo", "Asia/../Asia/Tokyo", "Asia/Tokyo/",
		"asia/tokyo", "ASIA/TOKYO", "Asia", "Asia/", "Tokyo", " UTC", "UTC ", "utc", "UTC+1", "+09:00", "Asia/Tokyo\n",
		"zone.tab", "tzdata.zi", `Asia\Tokyo`,
	} {
		_, err := zones.Parse(name)
		requireFault(t, err, birthday.InvalidTimezone)
	}
}

func TestZonesKnowTheirOffsets(t *testing.T) {
	instant := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for name, want := range map[string]string{
		"UTC": "2026-07-01T12:00", "Asia/Tokyo": "2026-07-01T21:00", "America/New_York": "2026-07-01T08:00",
		"Pacific/Kiritimati": "2026-07-02T02:00", "Asia/Kathmandu": "2026-07-01T17:45",
	} {
		zone, err := birthday.NewZones().Parse(name)
		require.NoError(t, err)
		require.Equal(t, want, instant.In(zone).Format("2006-01-02T15:04"))
	}
}
