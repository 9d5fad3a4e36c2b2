package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// arrows says which parts of the program each part may import. The parts do not
// know each other: what is not here is not allowed.
var arrows = map[string]string{
	".":               "admin api birthday copies httpd logqueue people secretfile store/bolt store/postgres tempfile",
	"admin":           "httpd",
	"api":             "birthday httpd",
	"bench":           "", // tests only, and what the service is measured against
	"bench/bare":      "",
	"bench/query":     "",
	"bench/server":    "store/postgres/pgtest",
	"bench/update":    "",
	"birthday":        "",
	"copies":          "store/bolt tempfile",
	"e2e":             "", // tests only: the real binary from outside
	"httpd":           "secretfile",
	"logqueue":        "",
	"people":          "birthday",
	"secretfile":      "",
	"store/bolt":      "birthday store/coalesce tempfile",
	"store/coalesce":  "",
	"store/postgres":  "birthday secretfile store/coalesce",
	"store/storetest": "birthday",
	"tempfile":        "",
	"testkit":         "", // tests only

	"store/postgres/pgtest": "testkit", // tests only: servers that come and go
}

// TestArrows compares the imports of the program with the table, and keeps the
// subject free of everything outside.
func TestArrows(t *testing.T) {
	const module = "birthday-demo/app"
	for _, p := range listPackages(t) {
		part := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if part == "" {
			part = "."
		}
		allowed, known := arrows[part]
		require.True(t, known, "%s is not in the table of arrows", part)
		for _, imported := range p.Imports {
			if other, ours := strings.CutPrefix(imported, module+"/"); ours {
				require.Contains(t, strings.Fields(allowed), other, "%s imports %s", part, other)
			} else if part == "birthday" {
				standard := !strings.Contains(strings.Split(imported, "/")[0], ".")
				require.True(t, standard || imported == "golang.org/x/text/unicode/norm", "birthday imports %s", imported)
				require.NotContains(t, []string{"os", "net", "net/http", "database/sql"}, imported)
			}
		}
		require.NotEmpty(t, p.Doc, "%s says what it is", part)
		vague := []string{"util", "utils", "common", "helpers", "models", "types", "base"}
		require.False(t, slices.Contains(vague, path.Base(p.ImportPath)), p.ImportPath)
	}
}

type listed struct {
	ImportPath, Doc string
	Imports         []string
}

func listPackages(t *testing.T) (packages []listed) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,Imports", "./...").Output()
	require.NoError(t, err)
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}
