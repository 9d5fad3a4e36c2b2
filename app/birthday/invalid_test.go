package birthday_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/birthday"
)

// The sentence of INVALID_DATE is the original service's; clients compare it.
func TestSentences(t *testing.T) {
	require.Equal(t, "Please supply 'dateOfBirth' as a valid date in 'YYYY-MM-DD' format, before today", birthday.InvalidDate.Sentence())
	for _, code := range []birthday.Code{birthday.InvalidUsername, birthday.InvalidTimezone, birthday.InvalidBody} {
		require.NotEqual(t, birthday.Code("").Sentence(), code.Sentence(), "%s has a sentence of its own", code)
	}
}

func TestInvalidJoinsDetails(t *testing.T) {
	_, errName := birthday.ParseUsername("")
	_, errDate := birthday.ParseDate("")
	var name, date birthday.Fault
	require.ErrorAs(t, errName, &name)
	require.ErrorAs(t, errDate, &date)
	require.EqualError(t, birthday.Invalid{date}, "dateOfBirth must be a date before today, like 1990-05-17")
	require.EqualError(t, birthday.Invalid{name, date}, name.Detail+"; "+date.Detail)
}
