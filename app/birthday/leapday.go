package birthday

import "time"

// LeapDay says when someone born on 29 February celebrates in common years.
type LeapDay string

// The two customs; both are in use, so an operator chooses.
const (
	Mar1  LeapDay = "mar1"  // on 1 March
	Feb28 LeapDay = "feb28" // on 28 February
)

// Known says whether the value is one of the customs above.
func (l LeapDay) Known() bool { return l == Mar1 || l == Feb28 }

// birthday is the day in year on which someone born on the date celebrates.
func (l LeapDay) birthday(born Date, year int) Date {
	if born.Month != time.February || born.Day != 29 || leapYear(year) {
		return Date{year, born.Month, born.Day}
	}
	if l == Feb28 {
		return Date{year, time.February, 28}
	}
	return Date{year, time.March, 1}
}

// leapYear follows the Gregorian rule.
func leapYear(year int) bool {
	return year%4 == 0 && (year%100 != 0 || year%400 == 0)
}
