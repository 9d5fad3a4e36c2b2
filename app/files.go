package main

import (
	"fmt"
	"math"
	"syscall"
)

// reservedFiles is how many files are kept for all that is no connection of the public
// port: the store, the internal port, copies. Of a small limit it is half.
const reservedFiles = 128

// fitConnections returns how many connections the public port may have at once, when
// so many are wanted and the process may have so many files open: a flood of them must
// leave some for the internal port, or a platform would restart a healthy service.
func fitConnections(wanted int, files uint64) (limit int) {
	most := max(files-min(reservedFiles, files/2), 1)
	if most > math.MaxInt || wanted > 0 && uint64(wanted) <= most {
		return wanted
	}
	return int(most)
}

// connections returns how many connections the public port may have at once, 0 for no
// limit, and a warning when these are not what was set.
func (s *settings) connections() (limit int, warning string) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return s.MaxConnections, ""
	}
	limit = fitConnections(s.MaxConnections, files.Cur)
	if limit == s.MaxConnections {
		return limit, ""
	}
	return limit, fmt.Sprintf("the public port takes %d connections at once, and not --max-connections=%d (0 is no limit): the process may have %d files open; "+
		"raise that (ulimit -n, LimitNOFILE=, nofile) or set --max-connections=%d", limit, s.MaxConnections, files.Cur, limit)
}
