package secretfile

// NewReaderOf makes a reader of what read returns.
func NewReaderOf(path string, read func(path string) ([]byte, error)) *Reader {
	r := NewReader(path)
	r.read = read
	return r
}
