// Package birthday is the subject of the service: who may be greeted, what a
// birth date is, and how many days are left. It holds every rule and every
// sentence a client reads about them. It knows no clock (today is always an
// argument), no file, no network and no HTTP.
package birthday

import "strconv"

// Person is one entry of a store: a username and the date that person was born.
type Person struct {
	Username Username
	Born     Date
}

// DaysLeft counts the days from today to the person's next birthday; 0 means
// that it is today. The result is between 0 and 365. Someone born on 29
// February celebrates as leap says in the years that have no such day.
func (p Person) DaysLeft(today Date, leap LeapDay) int {
	next := leap.birthday(p.Born, today.Year)
	if next.Before(today) {
		next = leap.birthday(p.Born, today.Year+1)
	}
	return next.daysSince(today)
}

// Hello is the sentence that greets a person on the day called today.
func Hello(p Person, today Date, leap LeapDay) string {
	days := p.DaysLeft(today, leap)
	if days == 0 {
		return "Hello, " + string(p.Username) + "! Happy birthday!"
	}
	return "Hello, " + string(p.Username) + "! Your birthday is in " + strconv.Itoa(days) + " day(s)"
}

// HelloStranger is the sentence for a username that no store knows.
func HelloStranger(name Username) string {
	return "Hello, " + string(name) + "! you are new, please create an account"
}
