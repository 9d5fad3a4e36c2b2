package main

import (
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/testkit"
)

// TestReserve has a file that no disk has space for.
func TestReserve(t *testing.T) {
	file, err := nameless(t.TempDir(), 1<<20)
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	info, err := file.Stat()
	require.NoError(t, err)
	const block = 512
	if info.Sys().(*syscall.Stat_t).Blocks*block < 1<<20 {
		testkit.Missing(t, "a file system that can reserve space", "e2fsprogs")
	}
	_, err = nameless(t.TempDir(), 1<<60)
	require.True(t, errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EFBIG), "%v", err)
}
