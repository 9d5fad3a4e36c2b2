package birthday

import (
	"fmt"
	"time"
)

// Date is a day of the proleptic Gregorian calendar, without a time of day or
// a zone. Dates compare with ==. Build one with NewDate, ParseDate or DateOf.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// NewDate gives the date of the numbers, and false when there is no such day
// or the year is outside 1 to 9999.
func NewDate(year int, month time.Month, day int) (Date, bool) {
	if day >= 1 && day <= 28 && month >= time.January && month <= time.December { // which every year has
		return Date{year, month, day}, year >= 1 && year <= 9999
	}
	d := DateOf(time.Date(year, month, day, 0, 0, 0, 0, time.UTC))
	return d, d == Date{year, month, day} && year >= 1 && year <= 9999
}

// DateOf gives the day of t in t's own zone.
func DateOf(t time.Time) Date {
	year, month, day := t.Date()
	return Date{year, month, day}
}

// ParseDate reads exactly ten ASCII characters, YYYY-MM-DD, that name a day
// that exists, from 0001-01-01 on. Anything else gives a Fault with
// InvalidDate.
func ParseDate(text string) (Date, error) {
	if len(text) != 10 || text[4] != '-' || text[7] != '-' {
		return Date{}, dateFault
	}
	year, ok1 := digits(text[0:4])
	month, ok2 := digits(text[5:7])
	day, ok3 := digits(text[8:10])
	d, exists := NewDate(year, time.Month(month), day)
	if !ok1 || !ok2 || !ok3 || !exists {
		return Date{}, dateFault
	}
	return d, nil
}

// ParseBirthDate reads a date as ParseDate does, and refuses one that is not
// before today.
func ParseBirthDate(text string, today Date) (Date, error) {
	d, err := ParseDate(text)
	if err == nil && !d.Before(today) {
		err = dateFault
	}
	return d, err
}

// digits reads a number from ASCII digits only: strconv would take a sign.
func digits(text string) (n int, ok bool) {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}

// String writes the date as YYYY-MM-DD.
func (d Date) String() string {
	return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day)
}

// Before says whether d is an earlier day than other.
func (d Date) Before(other Date) bool {
	return d.midnight().Before(other.midnight())
}

// daysSince counts the days from earlier to d, which must lie within 290 years.
func (d Date) daysSince(earlier Date) int {
	return int(d.midnight().Sub(earlier.midnight()) / (24 * time.Hour))
}

// midnight is the start of the day in UTC, where every day has 24 hours.
func (d Date) midnight() time.Time {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC)
}
