package birthday_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
)

func requireFault(t *testing.T, err error, code birthday.Code) {
	t.Helper()
	var fault birthday.Fault
	require.ErrorAs(t, err, &fault)
	require.Equal(t, code, fault.Code)
	require.NotEmpty(t, fault.Detail)
}

func TestParseDate(t *testing.T) {
	for _, text := range []string{"1990-05-17", "0001-01-01", "9999-12-31", "2000-02-29", "2024-02-29"} {
		d, err := birthday.ParseDate(text)
		require.NoError(t, err, text)
		require.Equal(t, text, d.String())
	}
}

func TestParseDateRefuses(t *testing.T) {
	tests := []struct{ what, text string }{
		{"nothing", ""},
		{"short month and day", "1990-1-1"},
		{"a time", "1990-05-17T00:00:00Z"},
		{"a space before", " 1990-05-17"},
		{"a space behind", "1990-05-17 "},
		{"a line end behind", "1990-05-17\n"},
		{"a space in a field", "1990- 5-17"},
		{"a sign in a field", "1990-+5-17"},
		{"a signed year", "-990-05-17"},
		{"slashes", "1990/05/17"},
		{"another order", "17-05-1990"},
		{"no separators", "1990051700"},
		{"arabic digits", "١٩٩٠-٠٥-١٧"},
		{"full-width digits of ten bytes", "1９９0-05"},
		{"a letter", "199O-05-17"},
		{"month 0", "1990-00-17"},
		{"month 13", "1990-13-17"},
		{"day 0", "1990-05-00"},
		{"day 32", "1990-05-32"},
		{"31 April", "1990-04-31"},
		{"29 February of a common year", "1990-02-29"},
		{"29 February of a century", "1900-02-29"},
		{"30 February", "2000-02-30"},
		{"year 0", "0000-01-01"},
		{"a zero byte", "1990-05-1\x00"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			_, err := birthday.ParseDate(tt.text)
			requireFault(t, err, birthday.InvalidDate)
		})
	}
}

func TestParseBirthDateIsBeforeToday(t *testing.T) {
	today := date(t, "2026-05-17")
	for text, ok := range map[string]bool{
		"2026-05-16": true, "2026-05-17": false, "2026-05-18": false,
		"2025-12-31": true, "2027-01-01": false, "9999-12-31": false,
		"2026-04-31": false,
	} {
		_, err := birthday.ParseBirthDate(text, today)
		if ok {
			require.NoError(t, err, text)
		} else {
			requireFault(t, err, birthday.InvalidDate)
		}
	}
}

func TestNewDateRefusesOtherYears(t *testing.T) {
	for _, year := range []int{0, -1, 10000} {
		_, ok := birthday.NewDate(year, time.January, 1)
		require.False(t, ok, year)
	}
}

func TestDateOfUsesTheZoneOfTheTime(t *testing.T) {
	instant := time.Date(2026, 5, 17, 23, 30, 0, 0, time.UTC)
	tokyo, err := birthday.NewZones().Parse("Asia/Tokyo")
	require.NoError(t, err)
	require.Equal(t, "2026-05-17", birthday.DateOf(instant).String())
	require.Equal(t, "2026-05-18", birthday.DateOf(instant.In(tokyo)).String())
}

func FuzzParseDate(f *testing.F) {
	for _, text := range []string{"1990-05-17", "0001-01-01", "2000-02-29", "1900-02-29", "1990-1-1", "", "١٩٩٠-٠٥-١٧"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := birthday.ParseDate(text)
		reference, refErr := time.Parse(time.DateOnly, text)
		if err != nil {
			requireFault(t, err, birthday.InvalidDate)
			require.True(t, refErr != nil || reference.Year() == 0, "refused for nothing")
			return
		}
		require.NoError(t, refErr)
		require.Equal(t, birthday.DateOf(reference), d)
		require.Equal(t, text, d.String())
	})
}
