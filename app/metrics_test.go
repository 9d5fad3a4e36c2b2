package main

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAScrapeDoesNotWaitForTheDisk asks for the size of a store whose disk hangs.
func TestAScrapeDoesNotWaitForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn, questions := make(chan struct{}), 0
		s := &sizer{size: func() (int64, error) {
			questions++
			<-goOn
			return 7, nil
		}}
		begin := time.Now()
		require.InDelta(t, -1, s.read(), 0)
		require.Equal(t, sizeTimeout, time.Since(begin))
		for range 100 {
			require.InDelta(t, -1, s.read(), 0)
		}
		require.Equal(t, sizeTimeout, time.Since(begin), "the first question is still open")
		close(goOn)
		synctest.Wait()
		require.InDelta(t, 7, s.read(), 0)
		require.Equal(t, 2, questions)
		s.size = func() (int64, error) { return 7, errors.New("gone") }
		require.InDelta(t, -1, s.read(), 0)
	})
}
