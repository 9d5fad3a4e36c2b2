package bolt

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// ordered notes where it is read from.
type ordered struct {
	size int64
	at   []int64
}

func (o *ordered) ReadAt(b []byte, at int64) (int, error) {
	o.at = append(o.at, at)
	return len(b), nil
}

func TestWarmReadsAFileInItsOrder(t *testing.T) {
	file := &ordered{size: 3*warmPiece + 5}
	require.NoError(t, warm(file, file.size))
	require.Equal(t, []int64{0, warmPiece, 2 * warmPiece, 3 * warmPiece}, file.at)
}

func TestProgressIsToldOnlyWhereThereIsSome(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	require.NoError(t, os.WriteFile(path, make([]byte, 100), 0o600))
	file, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	synctest.Test(t, func(t *testing.T) {
		c := &counted{ReaderAt: file}
		var told [][2]int64
		stop := c.tell(func(read, all int64) { told = append(told, [2]int64{read, all}) }, 200)
		time.Sleep(5 * progressEvery)
		require.Empty(t, told, "the disk hangs")
		_, err := c.ReadAt(make([]byte, 60), 0)
		require.NoError(t, err)
		time.Sleep(5 * progressEvery)
		stop()
		require.Equal(t, [][2]int64{{60, 200}}, told, "once, since it hangs again")
	})
}
