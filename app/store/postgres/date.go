package postgres

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"birthday-demo/app/birthday"
)

// inCalendar is true of the dates that we know, and the constraint of the table.
const inCalendar = `date_of_birth BETWEEN '0001-01-01' AND '9999-12-31'`

// day reads a date of PostgreSQL, which knows more of them than we do: infinity,
// and years before 1 and after 9999. Those become the zero Date, as an error would
// end the reading of all rows.
type day struct{ birthday.Date }

// ScanDate takes the date.
func (d *day) ScanDate(v pgtype.Date) error {
	d.Date = birthday.DateOf(v.Time)
	if !v.Valid || v.InfinityModifier != pgtype.Finite || !exists(d.Date) {
		d.Date = birthday.Date{}
	}
	return nil
}

// exists guards the table: a date that is none would be written as another.
func exists(d birthday.Date) bool {
	_, ok := birthday.NewDate(d.Year, d.Month, d.Day)
	return ok
}

// midnight is the form in which pgx takes dates.
func midnight(d birthday.Date) time.Time {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC)
}
