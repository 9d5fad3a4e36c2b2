package birthday_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
)

func date(t testing.TB, text string) birthday.Date {
	t.Helper()
	d, err := birthday.ParseDate(text)
	require.NoError(t, err)
	return d
}

func TestDaysLeft(t *testing.T) {
	tests := []struct {
		what, born, today string
		mar1, feb28       int
	}{
		{"the day itself", "1990-05-17", "2026-05-17", 0, 0},
		{"the day before", "1990-05-17", "2026-05-16", 1, 1},
		{"the day after", "1990-05-17", "2026-05-18", 364, 364},
		{"the day after, over a leap day", "1990-05-17", "2027-05-18", 365, 365},
		{"over New Year", "1990-01-01", "2026-12-31", 1, 1},
		{"leap day in a common year", "2000-02-29", "2027-02-28", 1, 0},
		{"leap day, on 1 March of a common year", "2000-02-29", "2027-03-01", 0, 365},
		{"leap day in a leap year", "2000-02-29", "2028-02-28", 1, 1},
		{"leap day, on the day", "2000-02-29", "2028-02-29", 0, 0},
		{"leap day, after it in a leap year", "2000-02-29", "2028-03-01", 365, 364},
		{"a century without a leap day", "2000-02-29", "2100-02-28", 1, 0},
		{"28 February in a leap year", "1999-02-28", "2028-02-29", 365, 365},
		{"1 March in a leap year", "1999-03-01", "2028-02-29", 1, 1},
		{"the first year", "0001-01-01", "2026-12-31", 1, 1},
		{"the last day of the calendar", "1990-01-01", "9999-12-31", 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			p := birthday.Person{Username: "ana", Born: date(t, tt.born)}
			require.Equal(t, tt.mar1, p.DaysLeft(date(t, tt.today), birthday.Mar1), "mar1")
			require.Equal(t, tt.feb28, p.DaysLeft(date(t, tt.today), birthday.Feb28), "feb28")
		})
	}
}

// monthLengths is the test's own calendar.
var monthLengths = [...]int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// calendar lists every day from 1 January of one year to 31 December of
// another, without help from the code under test or from package time.
func calendar(first, last int) (days []birthday.Date) {
	for year := first; year <= last; year++ {
		for month := 1; month <= 12; month++ {
			length := monthLengths[month-1]
			if month == 2 && (year%400 == 0 || year%4 == 0 && year%100 != 0) {
				length++
			}
			for day := 1; day <= length; day++ {
				days = append(days, birthday.Date{Year: year, Month: time.Month(month), Day: day})
			}
		}
	}
	return days
}

// TestDaysLeftAgreesWithACalendar compares every pair of a birth day and a
// today with an oracle that walks a calendar backwards and counts: common and
// leap years in every order, and the century years 2000 and 2100.
func TestDaysLeftAgreesWithACalendar(t *testing.T) {
	for _, span := range [][2]int{{1996, 2001}, {2023, 2030}, {2096, 2105}} {
		days := calendar(span[0], span[1])
		hasLeapDay := map[int]bool{}
		for _, d := range days {
			hasLeapDay[d.Year] = hasLeapDay[d.Year] || d.Month == 2 && d.Day == 29
		}
		for _, leap := range []birthday.LeapDay{birthday.Mar1, birthday.Feb28} {
			for _, born := range calendar(1988, 1988) {
				compareWithCalendar(t, days, hasLeapDay, born, leap)
			}
		}
	}
}

func compareWithCalendar(t *testing.T, days []birthday.Date, hasLeapDay map[int]bool, born birthday.Date, leap birthday.LeapDay) {
	p := birthday.Person{Username: "ana", Born: born}
	left := -1 // not known until the first birthday is passed
	for i := len(days) - 1; i >= 0; i-- {
		today, month, day := days[i], born.Month, born.Day
		if month == 2 && day == 29 && !hasLeapDay[today.Year] {
			month, day = 3, 1
			if leap == birthday.Feb28 {
				month, day = 2, 28
			}
		}
		switch {
		case today.Month == month && today.Day == day:
			left = 0
		case left >= 0:
			left++
		}
		if left >= 0 && p.DaysLeft(today, leap) != left {
			require.Equal(t, left, p.DaysLeft(today, leap), "born %s, today %s, %s", born, today, leap)
		}
	}
}

func TestHello(t *testing.T) {
	p := birthday.Person{Username: "Ána", Born: date(t, "1990-05-17")}
	require.Equal(t, "Hello, Ána! Happy birthday!", birthday.Hello(p, date(t, "2026-05-17"), birthday.Mar1))
	require.Equal(t, "Hello, Ána! Your birthday is in 1 day(s)", birthday.Hello(p, date(t, "2026-05-16"), birthday.Mar1))
	require.Equal(t, "Hello, Ána! Your birthday is in 364 day(s)", birthday.Hello(p, date(t, "2026-05-18"), birthday.Mar1))
	require.Equal(t, "Hello, Ána! you are new, please create an account", birthday.HelloStranger("Ána"))
}

func TestLeapDayKnown(t *testing.T) {
	require.True(t, birthday.Mar1.Known())
	require.True(t, birthday.Feb28.Known())
	require.False(t, birthday.LeapDay("").Known())
	require.False(t, birthday.LeapDay("MAR1").Known())
}
