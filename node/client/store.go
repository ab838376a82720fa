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

// inventory is the names of an outbox's files, oldest first: ids begin with
// their time.
type inventory struct {
	waiting []string // all end in punchExt
	aside   []string // end in punchExt or corruptExt
}

func (in *inventory) of(dir string) *[]string {
	if dir == waitingDir {
		return &in.waiting
	}
	return &in.aside
}

func (in *inventory) has(dir, name string) bool {
	_, found := slices.BinarySearch(*in.of(dir), name)
	return found
}

func (in *inventory) forget(dir, name string) {
	names := in.of(dir)
	*names = slices.DeleteFunc(*names, func(n string) bool { return n == name })
}

// scan lists the outbox and finishes what a crash interrupted. Files that are
// none of ours are left alone. Call it under the lock: without it, another
// one's work in progress looks like a crash.
func (o *Outbox) scan() (*inventory, error) {
	in := new(inventory)
	for _, dir := range []string{waitingDir, asideDir} {
		names, err := o.disk.list(dir)
		if err != nil {
			return nil, fmt.Errorf("outbox: %w", err)
		}
		for _, name := range names {
			switch {
			case strings.HasSuffix(name, punchExt+temporary):
				// Never acknowledged: whoever wrote it did not hear that it was kept.
				if err := o.disk.remove(dir + "/" + name); err != nil {
					return nil, fmt.Errorf("outbox: %w", err)
				}
			case ours(dir, name):
				*in.of(dir) = append(*in.of(dir), name)
			}
		}
	}
	for _, name := range slices.Clone(in.waiting) {
		if in.has(asideDir, name) {
			if err := o.undouble(in, name); err != nil {
				return nil, err
			}
		}
	}
	return in, nil
}

// ours tells the outbox's files from what an editor or an operating system
// leaves behind.
func ours(dir, name string) bool {
	if len(name) < 36 {
		return false
	}
	if id, err := punch.ParseID(name[:36]); err != nil || id.String() != name[:36] {
		return false
	}
	return name[36:] == punchExt || dir == asideDir && strings.HasSuffix(name, corruptExt)
}

// undouble finishes a move that a crash interrupted after the punch was written
// to its new place and before it was removed from the old one.
func (o *Outbox) undouble(in *inventory, name string) error {
	waiting, err := o.load(waitingDir, name)
	if errors.Is(err, errCorrupt) {
		return o.setAside(in, name)
	}
	if err != nil {
		return err
	}
	aside, err := o.load(asideDir, name)
	if err != nil && !errors.Is(err, errCorrupt) {
		return err
	}
	if err != nil || waiting.revision > aside.revision {
		return o.drop(in, asideDir, name)
	}
	return o.drop(in, waitingDir, name)
}

// drop removes a file that is not needed any more, durably.
func (o *Outbox) drop(in *inventory, dir, name string) error {
	if err := o.disk.remove(dir + "/" + name); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	in.forget(dir, name)
	return o.syncDir(dir)
}

// setAside moves an unreadable file out of the way of the others, as it is.
func (o *Outbox) setAside(in *inventory, name string) error {
	to := name[:36] + corruptExt
	for n := 2; in.has(asideDir, to); n++ {
		to = fmt.Sprintf("%s-%d%s", name[:36], n, corruptExt)
	}
	if err := o.disk.rename(waitingDir+"/"+name, asideDir+"/"+to); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	in.forget(waitingDir, name)
	in.aside = append(in.aside, to)
	slices.Sort(in.aside)
	return errors.Join(o.syncDir(asideDir), o.syncDir(waitingDir))
}

// load reads a file. An error that is errCorrupt is about its content.
func (o *Outbox) load(dir, name string) (Kept, error) {
	file := dir + "/" + name
	id, err := punch.ParseID(name[:36])
	if err != nil {
		return Kept{}, fmt.Errorf("outbox: %s: %w", file, err)
	}
	content, err := o.disk.read(file, maxKeptBytes)
	if err != nil {
		return Kept{}, fmt.Errorf("outbox: %w", err)
	}
	k, err := decodeKept(content, id)
	if err != nil {
		return Kept{}, fmt.Errorf("outbox: %s: %w", file, err)
	}
	k.File = file
	return k, nil
}

// replace makes or replaces a file so that a loss of power leaves the old one
// or the new one, and returns once it is the new one.
func (o *Outbox) replace(dir, name string, content []byte) error {
	file := dir + "/" + name
	if err := o.disk.write(file+temporary, content); err != nil {
		_ = o.disk.remove(file + temporary) // gives back the space of a disk that is full; scan would as well
		return fmt.Errorf("outbox: %w", err)
	}
	if err := o.disk.rename(file+temporary, file); err != nil {
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

// inventoryNow is scan for callers that do not hold the lock.
func (o *Outbox) inventoryNow(ctx context.Context) (in *inventory, err error) {
	err = o.locked(ctx, func() (err error) {
		in, err = o.scan()
		return err
	})
	return in, err
}

// Len returns how many punches wait and how many are in quarantine.
func (o *Outbox) Len(ctx context.Context) (waiting, quarantined int, err error) {
	in, err := o.inventoryNow(ctx)
	if err != nil {
		return 0, 0, err
	}
	return len(in.waiting), len(in.aside), nil
}

// List returns the punches that wait, oldest first. Damaged ones move to the
// quarantine. An error may come with those that could be read.
func (o *Outbox) List(ctx context.Context) ([]Kept, error) {
	in, err := o.inventoryNow(ctx)
	if err != nil {
		return nil, err
	}
	return o.loadAll(ctx, in.waiting)
}

// loadAll reads waiting punches. Another process may settle them meanwhile.
func (o *Outbox) loadAll(ctx context.Context, names []string) (all []Kept, _ error) {
	var errs []error
	for _, name := range names {
		k, err := o.load(waitingDir, name)
		if errors.Is(err, errCorrupt) {
			err = o.locked(ctx, func() error { return o.setAsideAgain(name) })
		} else if err == nil {
			all = append(all, k)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}

// setAsideAgain is setAside for a file that was found damaged without the lock
// and may have been settled since.
func (o *Outbox) setAsideAgain(name string) error {
	in, err := o.scan()
	if err != nil || !in.has(waitingDir, name) {
		return err
	}
	if _, err := o.load(waitingDir, name); !errors.Is(err, errCorrupt) {
		return err
	}
	return o.setAside(in, name)
}

// Quarantined returns what was refused for good, and the files that cannot be
// read, oldest first. An error may come with those that could be shown.
func (o *Outbox) Quarantined(ctx context.Context) ([]Kept, error) {
	in, err := o.inventoryNow(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := o.loadAll(ctx, in.waiting); err != nil { // moves damaged ones here
		return nil, err
	}
	if in, err = o.inventoryNow(ctx); err != nil {
		return nil, err
	}
	var all []Kept
	var errs []error
	for _, name := range in.aside {
		k, err := o.load(asideDir, name)
		if err != nil && !errors.Is(err, errCorrupt) {
			if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
			continue
		}
		if err != nil {
			id, _ := punch.ParseID(name[:36]) // ours has seen that it is one
			k = Kept{Request: Request{ID: id}, Corrupt: err, File: asideDir + "/" + name}
		}
		all = append(all, k)
	}
	return all, errors.Join(errs...)
}

// Release puts a quarantined punch back among those that wait, for a person who
// has removed the reason of its refusal. A damaged file stays where it is.
func (o *Outbox) Release(ctx context.Context, id punch.ID) error {
	return o.locked(ctx, func() error {
		in, name, err := o.findAside(id)
		if err != nil {
			return err
		}
		k, err := o.load(asideDir, name)
		if err != nil {
			return err
		}
		to := id.String() + punchExt
		if in.has(waitingDir, to) { // put again after this one was damaged
			return fmt.Errorf("%w: %s waits", ErrOtherPunch, id)
		}
		k.Refusal = nil
		k.revision++
		content, err := encodeKept(&k)
		if err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
		if err := o.replace(waitingDir, to, content); err != nil {
			return err
		}
		return o.drop(in, asideDir, name)
	})
}

// Discard removes a quarantined punch, for a person who has seen to it in some
// other way, and returns what it was. A damaged file is discarded by the id in
// its name.
func (o *Outbox) Discard(ctx context.Context, id punch.ID) (k Kept, err error) {
	err = o.locked(ctx, func() error {
		in, name, err := o.findAside(id)
		if err != nil {
			return err
		}
		if k, err = o.load(asideDir, name); errors.Is(err, errCorrupt) {
			k, err = Kept{Request: Request{ID: id}, Corrupt: err, File: asideDir + "/" + name}, nil
		}
		if err != nil {
			return err
		}
		// First it must be certain that it does not still wait.
		if err := o.syncDir(waitingDir); err != nil {
			return err
		}
		return o.drop(in, asideDir, name)
	})
	return k, err
}

func (o *Outbox) findAside(id punch.ID) (in *inventory, name string, _ error) {
	in, err := o.scan()
	if err != nil {
		return nil, "", err
	}
	text := id.String()
	if i := slices.IndexFunc(in.aside, func(n string) bool { return n == text+punchExt }); i >= 0 {
		return in, in.aside[i], nil
	}
	if i := slices.IndexFunc(in.aside, func(n string) bool { return strings.HasPrefix(n, text) }); i >= 0 {
		return in, in.aside[i], nil
	}
	return nil, "", fmt.Errorf("%w: %s", ErrNotInQuarantine, id)
}
