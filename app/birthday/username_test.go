package birthday_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"birthday-demo/app/birthday"
)

func TestParseUsername(t *testing.T) {
	tests := []struct{ what, text, want string }{
		{"ASCII", "ana", "ana"},
		{"case is kept", "AnA", "AnA"},
		{"one letter", "x", "x"},
		{"64 letters", strings.Repeat("a", 64), strings.Repeat("a", 64)},
		{"64 letters of four bytes", strings.Repeat("𐌰", 64), strings.Repeat("𐌰", 64)},
		{"composed", "José", "José"},
		{"decomposed becomes composed", "Jose\u0301", "Jos\u00e9"},
		{"128 code points that compose to 64", strings.Repeat("e\u0301", 64), strings.Repeat("\u00e9", 64)},
		{"the Kelvin sign becomes K", "\u212a", "K"},
		{"Japanese", "さくら", "さくら"},
		{"Arabic", "فاطمة", "فاطمة"},
		{"Hindi, with marks", "हिन्दी", "हिन्दी"},
		{"many marks", "a" + strings.Repeat("\u0316", 63), "a" + strings.Repeat("\u0316", 63)},
		{"many marks, of which one composes", "a" + strings.Repeat("\u0301", 63), "\u00e1" + strings.Repeat("\u0301", 62)},
		{"a modifier letter", "ʰa", "ʰa"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			name, err := birthday.ParseUsername(tt.text)
			require.NoError(t, err)
			require.Equal(t, birthday.Username(tt.want), name)
		})
	}
}

func TestParseUsernameRefuses(t *testing.T) {
	tests := []struct{ what, text string }{
		{"nothing", ""},
		{"65 letters", strings.Repeat("a", 65)},
		{"65 after NFC", strings.Repeat("e\u0301", 65)},
		{"a letter that NFC splits past 64", strings.Repeat("\u0958", 33)},
		{"a digit", "ana1"},
		{"a space", "ana maria"},
		{"a dot", "ana.b"},
		{"a slash", "a/b"},
		{"a hyphen", "ana-maria"},
		{"an underscore", "ana_b"},
		{"an apostrophe", "o'neil"},
		{"a line end", "ana\n"},
		{"a carriage return", "ana\r"},
		{"a tab", "a\tb"},
		{"a zero byte", "a\x00b"},
		{"invalid UTF-8", "a\xff"},
		{"a surrogate in UTF-8", "a\xed\xa0\x80"},
		{"an emoji", "ana🎂"},
		{"a zero-width joiner", "a\u200db"},
		{"a right-to-left override", "a\u202eb"},
		{"a soft hyphen", "a\u00adb"},
		{"a mark first", "\u0301a"},
		{"a private-use character", "a\ue000"},
		{"a letter number", "aⅫ"},
		{"a no-break space", "a\u00a0b"},
		{"a replacement character", "a\ufffd"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			_, err := birthday.ParseUsername(tt.text)
			requireFault(t, err, birthday.InvalidUsername)
		})
	}
}

func TestParseASCIIUsername(t *testing.T) {
	for text, ok := range map[string]bool{
		"ana": true, "AnaZ": true, strings.Repeat("z", 64): true,
		"": false, strings.Repeat("z", 65): false, "José": false, "ana1": false,
		"a b": false, "a\xff": false, "[": false, "`": false, "@": false, "{": false,
	} {
		name, err := birthday.ParseASCIIUsername(text)
		if ok {
			require.NoError(t, err, text)
			require.Equal(t, birthday.Username(text), name)
		} else {
			requireFault(t, err, birthday.InvalidUsername)
		}
	}
}

func FuzzParseUsername(f *testing.F) {
	for _, text := range []string{"ana", "Jose\u0301", "a\xff", "\u0301a", "फ\u093c", strings.Repeat("a", 65), "a/b", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := birthday.ParseUsername(text)
		if err != nil {
			requireFault(t, err, birthday.InvalidUsername)
			return
		}
		s := string(name)
		if !strings.Contains(norm.NFC.String(s), "\u034f") { // x/text's own idea of very many marks
			require.True(t, norm.NFC.IsNormalString(s))
		}
		require.LessOrEqual(t, utf8.RuneCountInString(s), birthday.MaxUsername)
		for _, r := range s {
			require.True(t, unicode.In(r, unicode.L, unicode.M))
		}
		again, err := birthday.ParseUsername(s)
		require.NoError(t, err)
		require.Equal(t, name, again, "parsing twice changes nothing")
		if ascii, err := birthday.ParseASCIIUsername(text); err == nil {
			require.Equal(t, name, ascii)
		}
	})
}
