package tempfile_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"birthday-demo/app/testkit"
)

// TestReserve has a file that no disk has space for.
func TestReserve(t *testing.T) {
	file := create(t, t.TempDir(), "")
	require.NoError(t, file.Reserve(1<<20))
	info, err := file.Stat()
	require.NoError(t, err)
	const block = 512
	if info.Sys().(*syscall.Stat_t).Blocks*block < 1<<20 {
		testkit.Missing(t, "a file system that can reserve space", "e2fsprogs")
	}
	err = create(t, t.TempDir(), "").Reserve(1 << 60)
	require.True(t, errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EFBIG), "%v", err)
}
