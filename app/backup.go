package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"birthday-demo/app/store/bolt"
	"birthday-demo/app/store/postgres"
	"birthday-demo/app/tempfile"
)

func backupCommand(w world, s *settings) *cobra.Command {
	b := backup{source: source{settings: s}}
	cmd := &cobra.Command{
		Use:   "backup FILE|-",
		Short: "Copy the store, also while the service writes",
		Long: "Writes a consistent copy of the bbolt file: of a stopped one, or of a running\n" +
			"service's with --admin. Of a database it writes a dump, which needs pg_dump and\n" +
			"pg_restore. The copy is verified before the file gets its name. With --compact\n" +
			"nothing remains in it of people who were erased; in a dump nothing ever does.",
		Example: "  app backup --admin http://localhost:8081 /backup/birthday.db",
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.load(w); err != nil {
				return err
			}
			return b.run(cmd.Context(), w, args[0])
		},
	}
	b.source.define(cmd)
	b.talk.define(cmd)
	cmd.Flags().BoolVar(&b.compact, "compact", false, "leave out what is left of erased people")
	return cmd
}

// backup is one run of the command.
type backup struct {
	source
	talk
	compact bool
}

func (b *backup) run(ctx context.Context, w world, path string) error {
	if err := errors.Join(b.requireFile(path), requireTarget(path, b.settings.Store)); err != nil {
		return err
	}
	folder := filepath.Dir(path)
	if path == "-" {
		folder = os.TempDir()
	}
	bar := newProgress(w, b.quiet, "copying", -1)
	compact, verify := b.compact && b.admin == "", verifyFile
	if b.ofDatabase() {
		compact, verify = false, verifyDump
	}
	file, report, err := makeCopy(ctx, folder, compact, verify, func(out io.Writer) error {
		return b.copy(ctx, bar.writer(out))
	})
	bar.done()
	if err != nil {
		return fmt.Errorf("backup to %s: %w", path, err)
	}
	defer func() { _ = file.Discard() }() // what was committed stays
	if path == "-" {
		err = copyOut(file.File, w.stdout)
	} else {
		err = file.Commit(path)
	}
	if err != nil {
		return fmt.Errorf("backup to %s: %w", path, tempfile.Renamed(err, file.Name(), path))
	}
	return b.say(w, report, "copied and verified: %d bytes, people: %d", report.Bytes, report.People)
}

// ofDatabase says whether the copy is to be of a database.
func (b *backup) ofDatabase() bool { return b.admin == "" && b.settings.inDatabase() }

// copy writes the copy of a running service, of a stopped store or of a database.
func (b *backup) copy(ctx context.Context, out io.Writer) error {
	if b.ofDatabase() {
		return postgres.Dump(ctx, b.settings.Store, b.settings.database(), out)
	}
	if b.admin == "" {
		return orAsk(bolt.Copy(b.settings.Store, out))
	}
	path := "/backup"
	if b.compact {
		path += "?compact"
	}
	answer, err := b.ask(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, answer)
	return errors.Join(err, answer.Close())
}

// copyOut writes a file to the standard output.
func copyOut(file *os.File, out io.Writer) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := io.Copy(out, file)
	return err
}

// verify reads a copy to its end, and tells what it holds.
type verify func(ctx context.Context, file *os.File) (bolt.Report, error)

func verifyFile(_ context.Context, file *os.File) (bolt.Report, error) { return bolt.VerifyFile(file) }

func verifyDump(ctx context.Context, file *os.File) (report bolt.Report, err error) {
	if report.People, err = postgres.VerifyDump(ctx, file.Name()); err != nil {
		return report, err
	}
	report.Bytes, err = fileSize(file.Name())
	return report, err
}

// makeCopy makes a copy of a store in a folder, packed if that is wanted, and
// verifies it. The caller commits or discards it.
func makeCopy(ctx context.Context, folder string, compact bool, verify verify, write func(io.Writer) error) (file *tempfile.File, report bolt.Report, err error) {
	if file, err = writeCopy(ctx, folder, compact, write); err != nil {
		return nil, report, err
	}
	synced := make(chan error, 1)
	go func() { synced <- file.Sync() }() // the disk writes while we read
	report, err = verify(ctx, file.File)
	err = errors.Join(err, <-synced, ctx.Err())
	if err != nil {
		return nil, report, fmt.Errorf("verify the copy: %w", tempfile.Renamed(errors.Join(err, file.Discard()), file.Name(), "the copy"))
	}
	return file, report, nil
}

// copyForClient makes a copy of an open store for the internal port, whose client
// verifies it, and gives its length in bytes. When it is closed, nothing is left of
// it. While it is packed, it ends with ctx.
func copyForClient(ctx context.Context, s *bolt.Store, folder string, compact bool) (io.ReadCloser, int64, error) {
	if compact {
		return packedCopy(ctx, s, folder)
	}
	spool, size, err := spoolSnapshot(s, folder)
	if err != nil {
		return nil, 0, err
	}
	return spool, size, nil
}

func packedCopy(ctx context.Context, s *bolt.Store, folder string) (io.ReadCloser, int64, error) {
	file, err := writeCopy(ctx, folder, true, func(out io.Writer) error {
		_, err := s.Backup(ctx, out)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	_, seekErr := file.Seek(0, io.SeekStart)
	if err := errors.Join(err, seekErr, os.Remove(file.Name())); err != nil {
		return nil, 0, fmt.Errorf("make a copy: %w", errors.Join(err, file.Close()))
	}
	return file.File, info.Size(), nil
}

// writeCopy writes a copy to a temporary file, packed if that is wanted. Nothing is
// left of it when it fails or ctx ends.
func writeCopy(ctx context.Context, folder string, compact bool, write func(io.Writer) error) (*tempfile.File, error) {
	whole, err := fillTemporary(ctx, folder, func(file *os.File) error { return write(inLargePieces{file}) })
	if err != nil || !compact {
		return whole, err
	}
	defer func() { _ = whole.Discard() }() // nobody waits for it
	return fillTemporary(ctx, folder, func(file *os.File) error { return bolt.Pack(ctx, file, whole.File) })
}

func fillTemporary(ctx context.Context, folder string, write func(*os.File) error) (*tempfile.File, error) {
	file, err := tempfile.Create(folder)
	if err != nil {
		return nil, fmt.Errorf("make a copy in %s: %w", folder, err)
	}
	if err := errors.Join(write(file.File), ctx.Err()); err != nil {
		return nil, fmt.Errorf("make a copy: %w", tempfile.Renamed(errors.Join(err, file.Discard()), file.Name(), "the copy"))
	}
	return file, nil
}

// inLargePieces is a file that copies take fewer system calls to.
type inLargePieces struct{ *os.File }

// ReadFrom is what io.Copy looks for.
func (f inLargePieces) ReadFrom(r io.Reader) (int64, error) { return copyLargePieces(f.File, r) }

// copyLargePieces is io.Copy with fewer calls.
func copyLargePieces(w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, 256<<10))
}
