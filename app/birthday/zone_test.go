package birthday_test

import (
	"archive/zip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
)

func TestEveryZoneLoads(t *testing.T) {
	archive, err := zip.OpenReader("zoneinfo.zip")
	require.NoError(t, err)
	defer func() { _ = archive.Close() }()
	zones, loaded := birthday.NewZones(), 0
	for _, file := range archive.File {
		if file.FileInfo().IsDir() {
			continue
		}
		for range 2 { // the second time it is remembered
			zone, err := zones.Parse(file.Name)
			require.NoError(t, err)
			require.Equal(t, file.Name, zone.String())
		}
		loaded++
	}
	require.Greater(t, loaded, 590)
}

// TestTheMachinesZonesDoNotCount makes other zones of the same names.
func TestTheMachinesZonesDoNotCount(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "Asia"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "Asia", "Tokyo"), []byte("TZif"), 0o600))
	t.Setenv("ZONEINFO", folder)
	zone, err := birthday.NewZones().Parse("Asia/Tokyo")
	require.NoError(t, err)
	require.Equal(t, "+0900", time.Now().In(zone).Format("-0700"))
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
