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
	name, report, err := makeCopy(ctx, folder, compact, verify, func(out io.Writer) error {
		return b.copy(ctx, bar.writer(out))
	})
	bar.done()
	if err != nil {
		return fmt.Errorf("backup to %s: %w", path, err)
	}
	defer func() { _ = os.Remove(name) }() // gone already when it was renamed
	if path == "-" {
		err = copyOut(name, w.stdout)
	} else {
		err = rename(name, path)
	}
	if err != nil {
		return fmt.Errorf("backup to %s: %w", path, err)
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
func copyOut(name string, out io.Writer) error {
	file, err := os.Open(name) //nolint:gosec // our own temporary file
	if err != nil {
		return err
	}
	_, err = io.Copy(out, file)
	return errors.Join(err, file.Close())
}

// verify reads a copy to its end, and tells what it holds.
type verify func(ctx context.Context, path string) (bolt.Report, error)

func verifyFile(_ context.Context, path string) (bolt.Report, error) { return bolt.Verify(path) }

func verifyDump(ctx context.Context, path string) (report bolt.Report, err error) {
	if report.People, err = postgres.VerifyDump(ctx, path); err != nil {
		return report, err
	}
	report.Bytes, err = fileSize(path)
	return report, err
}

// makeCopy makes a copy of a store in a folder, packed if that is wanted, and
// syncs and verifies it. The caller renames or removes it.
func makeCopy(ctx context.Context, folder string, compact bool, verify verify, write func(io.Writer) error) (name string, report bolt.Report, err error) {
	temp, err := writeCopy(ctx, folder, compact, write)
	if err != nil {
		return "", report, err
	}
	synced := make(chan error, 1)
	go func() { synced <- syncFile(temp) }() // the disk writes while we read
	report, err = verify(ctx, temp)
	err = errors.Join(err, <-synced, ctx.Err())
	if err != nil {
		return "", report, fmt.Errorf("verify the copy: %w", calling(temp, "the copy", errors.Join(err, os.Remove(temp))))
	}
	return temp, report, nil
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
	temp, err := writeCopy(ctx, folder, true, func(out io.Writer) error {
		_, err := s.Backup(out)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	size, err := fileSize(temp)
	file, openErr := os.Open(temp) //nolint:gosec // our own temporary file
	if err := errors.Join(err, openErr, os.Remove(temp)); err != nil {
		_ = file.Close() // nil when it was not opened
		return nil, 0, fmt.Errorf("make a copy: %w", err)
	}
	return file, size, nil
}

// writeCopy writes a copy to a temporary file of mode 0600, which it removes when
// it fails or ctx ends.
func writeCopy(ctx context.Context, folder string, compact bool, write func(io.Writer) error) (name string, err error) {
	file, err := os.CreateTemp(folder, ".birthday-*.copy")
	if err != nil {
		return "", fmt.Errorf("make a copy in %s: %w", folder, reason(err))
	}
	err = errors.Join(write(inLargePieces{file}), file.Close(), ctx.Err())
	if err == nil && compact {
		_, err = bolt.Compact(ctx, file.Name())
	}
	if err != nil {
		return "", fmt.Errorf("make a copy: %w", calling(file.Name(), "the copy", errors.Join(err, os.Remove(file.Name()))))
	}
	return file.Name(), nil
}

// inLargePieces is a file that copies take fewer system calls to.
type inLargePieces struct{ *os.File }

// ReadFrom is what io.Copy looks for.
func (f inLargePieces) ReadFrom(r io.Reader) (int64, error) { return copyLargePieces(f.File, r) }

// copyLargePieces is io.Copy with fewer calls.
func copyLargePieces(w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, 256<<10))
}
