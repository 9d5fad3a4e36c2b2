package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set by the linker in released builds (see the Makefile); else what the go
// command left in the binary is used.
var linkedVersion, linkedCommit, linkedTime string

// version says what this binary is, in the shape of the JSON of /version.
type version struct {
	Version   string `json:"version"`
	Commit    string `json:"commit"`
	BuildTime string `json:"buildTime"`
	Go        string `json:"go"`
}

func readVersion() version {
	v := version{Version: "dev", Commit: "unknown", BuildTime: "unknown", Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" && info.Main.Version != "(devel)" {
			v.Version = info.Main.Version
		}
		modified := false
		for _, setting := range info.Settings {
			switch setting.Key {
			case "vcs.revision":
				v.Commit = setting.Value
			case "vcs.time":
				v.BuildTime = setting.Value // the commit's: the go command knows no other
			case "vcs.modified":
				modified = setting.Value == "true"
			}
		}
		if modified {
			v.Commit += "-dirty"
		}
	}
	v.Version = cmp.Or(linkedVersion, v.Version)
	v.Commit = cmp.Or(linkedCommit, v.Commit)
	v.BuildTime = cmp.Or(linkedTime, v.BuildTime)
	return v
}

// String is the line that --version prints.
func (v version) String() string {
	return fmt.Sprintf("birthday-demo %s (commit %s, built %s, %s)", v.Version, v.Commit, v.BuildTime, v.Go)
}
