package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"

	"birthday-demo/app/admin"
	"birthday-demo/app/birthday"
	"birthday-demo/app/people"
)

// importPlan says how an import goes about it.
type importPlan struct {
	inMemory  int    // how many people are sorted at a time there
	committed int    // how many go into a commit, which is how long others wait; at most inMemory
	folder    string // for what does not fit into the memory; without, each such part is put alone
}

// commandImport is for a command, which has the memory of its machine.
func commandImport(s *settings) importPlan {
	if s.inDatabase() {
		return importPlan{inMemory: 2_000_000, committed: 25_000}
	}
	return importPlan{inMemory: 100_000, committed: 25_000, folder: filepath.Dir(s.Store)}
}

// serviceImport is for the service, which has other things to do. One with a database
// may have no disk.
func serviceImport(s *settings) importPlan {
	if s.inDatabase() {
		return importPlan{inMemory: 100_000, committed: 5_000}
	}
	return importPlan{inMemory: 50_000, committed: 5_000, folder: filepath.Dir(s.Store)}
}

// intake is an import at work.
type intake struct {
	importPlan
	store  store             // nil only counts
	batch  []birthday.Person // who came in order, as from an export, and wait for their commit
	last   birthday.Username // of all that came in order
	sorter *sorter           // of those who come since somebody did not
	kept   int               // puts that were committed
	report importReport
}

// importPeople puts a stream into a store, or only reads it when that is nil. It
// sorts before it writes: neighbours share pages, and so the commits are many
// times faster, and the file is smaller. When it ends with an error, its report counts
// as taken those who were committed.
//
// People who come in order, as from an export, are put as they come; all from the
// first on who does not are sorted, or the part that fits into the memory is.
func importPeople(ctx context.Context, s store, stream iter.Seq2[birthday.Person, error], plan importPlan) (importReport, error) {
	i := &intake{importPlan: plan, store: s}
	defer i.close()
	err := i.all(ctx, stream)
	if err != nil && i.kept > 0 {
		err = fmt.Errorf("people who are kept already: %d; import again when this is mended: %w", i.kept, err)
	}
	return i.report, err
}

func (i *intake) all(ctx context.Context, stream iter.Seq2[birthday.Person, error]) error {
	for p, err := range stream {
		refusal, refused := errors.AsType[people.Refusal](err)
		warning, warned := errors.AsType[people.Warning](err)
		switch {
		case err == nil:
			if err := i.take(ctx, p); err != nil {
				return err
			}
		case refused:
			i.refuse(refusal)
		case warned:
			i.report.Warnings = append(i.report.Warnings, warning)
		default:
			if flushErr := i.flush(ctx); flushErr != nil {
				return fmt.Errorf("%w; and the input: %s", flushErr, err) //nolint:errorlint // the client cannot mend the first
			}
			return fmt.Errorf("%w: %w", admin.ErrInput, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return i.flush(ctx)
}

func (i *intake) take(ctx context.Context, p birthday.Person) error {
	switch {
	case i.store == nil:
		i.report.Taken++
		return nil
	case i.sorter == nil && p.Username > i.last:
		i.last = p.Username
		if i.batch = append(i.batch, p); len(i.batch) == i.committed {
			return i.flush(ctx)
		}
		return nil
	case i.sorter == nil:
		i.sorter = newSorter(ctx, i.inMemory, i.folder)
		for _, waiting := range i.batch {
			if err := i.sorter.add(waiting); err != nil {
				return err
			}
		}
		i.batch = nil
	}
	if err := i.sorter.add(p); err != nil {
		return err
	}
	if i.folder == "" && i.sorter.count >= i.inMemory {
		return i.flush(ctx)
	}
	return nil
}

func (i *intake) refuse(r people.Refusal) {
	i.report.Refused++
	if len(i.report.Refusals) < maxRefusals {
		i.report.Refusals = append(i.report.Refusals, r)
	}
}

// flush puts those who were taken.
func (i *intake) flush(ctx context.Context) error {
	if i.sorter == nil {
		if err := i.put(ctx, i.batch); err != nil {
			return err
		}
		i.report.Taken += len(i.batch)
		i.batch = i.batch[:0]
		return nil
	}
	defer i.close()
	before := i.kept
	err := inBatches(i.sorter.sorted(), i.committed, func(batch []birthday.Person) error { return i.put(ctx, batch) })
	if err != nil {
		i.report.Taken += i.kept - before
		return err
	}
	i.report.Taken += i.sorter.count
	return nil
}

// put commits people who are sorted, if there are any.
func (i *intake) put(ctx context.Context, batch []birthday.Person) error {
	if len(batch) == 0 {
		return nil
	}
	if err := i.store.PutAll(ctx, batch); err != nil {
		return err
	}
	i.kept += len(batch)
	return nil
}

func (i *intake) close() {
	if i.sorter != nil {
		i.sorter.close()
		i.sorter = nil
	}
}

// inBatches hands a stream on, so many people at a time, until one of both fails.
func inBatches(stream iter.Seq2[birthday.Person, error], size int, put func([]birthday.Person) error) error {
	batch := make([]birthday.Person, 0, size)
	for p, err := range stream {
		if err != nil {
			return err
		}
		if batch = append(batch, p); len(batch) < size {
			continue
		}
		if err := put(batch); err != nil {
			return err
		}
		batch = batch[:0]
	}
	return put(batch)
}
