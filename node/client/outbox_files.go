package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/punchclock/punchclock/node/punch"
)

// inventory is the names of the files of an outbox, oldest first: an id begins with its time.
type inventory struct {
	waiting     []string // all end in punchExt
	quarantined []string // end in punchExt or corruptExt
}

func (in *inventory) of(dir string) *[]string {
	if dir == waitingDir {
		return &in.waiting
	}
	return &in.quarantined
}

func (in *inventory) has(dir, name string) bool {
	_, found := slices.BinarySearch(*in.of(dir), name)
	return found
}

func (in *inventory) add(dir, name string) {
	names := in.of(dir)
	if i, found := slices.BinarySearch(*names, name); !found {
		*names = slices.Insert(*names, i, name)
	}
}

func (in *inventory) remove(dir, name string) {
	names := in.of(dir)
	*names = slices.DeleteFunc(*names, func(n string) bool { return n == name })
}

// scan lists the outbox and finishes moves that a crash interrupted. It leaves unknown files alone. It must run under the
// lock: without it, the work of another process looks like a crash.
func (o *Outbox) scan() (*inventory, error) {
	in := new(inventory)
	for _, dir := range []string{waitingDir, quarantineDir} {
		names, err := o.disk.list(dir)
		if err != nil {
			return nil, fmt.Errorf("outbox: %w", err)
		}
		for _, name := range names {
			switch {
			case strings.HasSuffix(name, punchExt+tempExt):
				// No caller was told that this punch is kept: the write did not end.
				if err := o.disk.remove(dir + "/" + name); err != nil {
					return nil, fmt.Errorf("outbox: %w", err)
				}
			case isPunchFile(dir, name):
				*in.of(dir) = append(*in.of(dir), name)
			}
		}
	}
	for _, name := range slices.Clone(in.waiting) {
		if in.has(quarantineDir, name) {
			if err := o.finishMove(in, name); err != nil {
				return nil, err
			}
		}
	}
	return in, nil
}

// isPunchFile tells the files of the outbox from the files that an editor or an operating system leaves behind.
func isPunchFile(dir, name string) bool {
	if len(name) < idLength {
		return false
	}
	if id, err := punch.ParseID(name[:idLength]); err != nil || id.String() != name[:idLength] {
		return false
	}
	return name[idLength:] == punchExt || dir == quarantineDir && strings.HasSuffix(name, corruptExt)
}

// idLength is the length of an id in the name of a file.
const idLength = 36

// finishMove ends a move that a crash interrupted. The punch has its file in the new folder and still in the old one.
func (o *Outbox) finishMove(in *inventory, name string) error {
	waiting, err := o.load(waitingDir, name)
	if errors.Is(err, errCorrupt) {
		return o.quarantineCorrupt(in, name)
	}
	if err != nil {
		return err
	}
	quarantined, err := o.load(quarantineDir, name)
	if err != nil && !errors.Is(err, errCorrupt) {
		return err
	}
	if err != nil || waiting.revision > quarantined.revision {
		return o.removeDurably(in, quarantineDir, name)
	}
	return o.removeDurably(in, waitingDir, name)
}

// removeDurably removes a file and returns once a loss of power cannot bring it back.
func (o *Outbox) removeDurably(in *inventory, dir, name string) error {
	if err := o.disk.remove(dir + "/" + name); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	in.remove(dir, name)
	return o.syncDir(dir)
}

// quarantineCorrupt moves an unreadable file to the quarantine unchanged.
func (o *Outbox) quarantineCorrupt(in *inventory, name string) error {
	to := name[:idLength] + corruptExt
	for n := 2; in.has(quarantineDir, to); n++ {
		to = fmt.Sprintf("%s-%d%s", name[:idLength], n, corruptExt)
	}
	if err := o.disk.rename(waitingDir+"/"+name, quarantineDir+"/"+to); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	in.remove(waitingDir, name)
	in.add(quarantineDir, to)
	return errors.Join(o.syncDir(quarantineDir), o.syncDir(waitingDir))
}

// load reads a file. An errCorrupt is about its content.
func (o *Outbox) load(dir, name string) (Entry, error) {
	file := dir + "/" + name
	id, err := punch.ParseID(name[:idLength])
	if err != nil {
		return Entry{}, fmt.Errorf("outbox: %s: %w", file, err)
	}
	content, err := o.disk.read(file, maxEntryBytes)
	if err != nil {
		return Entry{}, fmt.Errorf("outbox: %w", err)
	}
	e, err := decodeEntry(content, id)
	if err != nil {
		return Entry{}, fmt.Errorf("outbox: %s: %w", file, err)
	}
	e.File = file
	return e, nil
}

// replace creates or replaces a file. After a loss of power the file has its old or its new content. Once replace
// returns, it has the new content.
func (o *Outbox) replace(dir, name string, content []byte) error {
	file := dir + "/" + name
	if err := o.disk.write(file+tempExt, content); err != nil {
		_ = o.disk.remove(file + tempExt) // frees the space on a full disk; scan would as well
		return fmt.Errorf("outbox: %w", err)
	}
	if err := o.disk.rename(file+tempExt, file); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return o.syncDir(dir)
}

func (o *Outbox) syncDir(dir string) error {
	if err := o.disk.sync(dir); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// lockedScan is scan for callers that do not hold the lock.
func (o *Outbox) lockedScan(ctx context.Context) (in *inventory, err error) {
	err = o.locked(ctx, func() (err error) {
		in, err = o.scan()
		return err
	})
	return in, err
}

// Len returns how many punches wait and how many are in quarantine.
func (o *Outbox) Len(ctx context.Context) (waiting, quarantined int, err error) {
	in, err := o.lockedScan(ctx)
	if err != nil {
		return 0, 0, err
	}
	return len(in.waiting), len(in.quarantined), nil
}

// List returns the waiting punches, oldest first. Damaged files move to the quarantine. An error may come together with
// the punches that could be read.
func (o *Outbox) List(ctx context.Context) ([]Entry, error) {
	in, err := o.lockedScan(ctx)
	if err != nil {
		return nil, err
	}
	return o.loadAll(ctx, in.waiting)
}

// loadAll reads waiting punches. It leaves out punches that another process has settled meanwhile.
func (o *Outbox) loadAll(ctx context.Context, names []string) (all []Entry, _ error) {
	var errs []error
	for _, name := range names {
		e, err := o.load(waitingDir, name)
		if errors.Is(err, errCorrupt) {
			err = o.locked(ctx, func() error { return o.quarantineIfCorrupt(name) })
		} else if err == nil {
			all = append(all, e)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}

// quarantineIfCorrupt checks a file again under the lock. It was found damaged without the lock, and another process may
// have settled it since.
func (o *Outbox) quarantineIfCorrupt(name string) error {
	in, err := o.scan()
	if err != nil || !in.has(waitingDir, name) {
		return err
	}
	if _, err := o.load(waitingDir, name); !errors.Is(err, errCorrupt) {
		return err
	}
	return o.quarantineCorrupt(in, name)
}
