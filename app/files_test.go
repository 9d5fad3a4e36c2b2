package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConnectionsFitTheFiles(t *testing.T) {
	tests := []struct {
		what   string
		wanted int
		files  uint64
		limit  int
	}{
		{"the default below a usual limit", 4096, 65_536, 4096},
		{"as many as there are", 896, 1024, 896},
		{"one more than there are", 897, 1024, 896},
		{"the default above a usual limit", 4096, 1024, 896},
		{"a small limit is shared", 4096, 200, 100},
		{"no limit becomes one", 0, 1024, 896},
		{"no limit of either", 0, math.MaxUint64, 0},
		{"a limit of connections only", 7, math.MaxUint64, 7},
		{"no room at all", 4096, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			require.Equal(t, tt.limit, fitConnections(tt.wanted, tt.files))
		})
	}
}
