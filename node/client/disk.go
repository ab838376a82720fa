package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/gofrs/flock"
)

// disk is the file system of an outbox, in small steps. Their order decides what a loss of power leaves behind. Names are
// relative to the folder of the outbox.
type disk interface {
	// lock waits for the named lock. It holds against other processes and ends with its process. A wait of 0 means one
	// try. Without the lock the error is errBusy.
	lock(ctx context.Context, name string, wait time.Duration) (unlock func(), err error)
	// list returns the names of the files in a folder, sorted.
	list(dir string) ([]string, error)
	size(name string) (int64, error)
	// read returns at most limit+1 bytes.
	read(name string, limit int) ([]byte, error)
	// write creates or replaces a file. It returns once the content survives a loss of power; the name may not yet.
	write(name string, content []byte) error
	// append adds whole lines to a file and returns once they survive a loss of power.
	append(name string, lines []byte) error
	// rename replaces a file that has the new name already.
	rename(from, to string) error
	remove(name string) error
	// sync returns once the names in a folder survive a loss of power.
	sync(dir string) error
}

// errBusy says that another process or goroutine holds a lock.
var errBusy = errors.New("locked by another process or goroutine")

// Punches are personal data, so only the user of the process may read them.
const (
	folderMode = 0o700
	fileMode   = 0o600
)

// folder is the disk of a machine below a folder.
type folder string

func (root folder) path(name string) string { return filepath.Join(string(root), name) }

// makeFolder creates a folder and its missing parents. It returns once all of their names survive a loss of power.
func makeFolder(dir string) error {
	var parents []string
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil || d == filepath.Dir(d) {
			break
		}
		parents = append(parents, filepath.Dir(d))
	}
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return err
	}
	for _, parent := range parents {
		if err := folder(parent).sync("."); err != nil {
			return err
		}
	}
	return nil
}

// lockPoll is the pause between two tries of a lock: no system call waits for a lock and a context. Holders keep a lock
// for some milliseconds.
const lockPoll = 5 * time.Millisecond

func (root folder) lock(ctx context.Context, name string, wait time.Duration) (func(), error) {
	l := flock.New(root.path(name), flock.SetPermissions(fileMode))
	locked, err := l.TryLock()
	if !locked && err == nil && wait > 0 {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		locked, err = l.TryLockContext(ctx, lockPoll)
	}
	switch {
	case locked:
		return func() { _ = l.Unlock() }, nil // nothing was written, and the end of the process unlocks as well
	case err == nil || errors.Is(err, ctx.Err()) || errors.Is(err, context.DeadlineExceeded):
		return nil, errors.Join(fmt.Errorf("%s: %w", l.Path(), errBusy), context.Cause(ctx))
	default:
		return nil, fmt.Errorf("%s: %w", l.Path(), err)
	}
}

func (root folder) list(dir string) ([]string, error) {
	f, err := os.Open(root.path(dir))
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, errors.Join(err, f.Close())
}

func (root folder) size(name string) (int64, error) {
	info, err := os.Stat(root.path(name))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (root folder) read(name string, limit int) ([]byte, error) {
	f, err := os.Open(root.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	return io.ReadAll(io.LimitReader(f, int64(limit)+1))
}

func (root folder) write(name string, content []byte) error {
	f, err := os.OpenFile(root.path(name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (root folder) append(name string, lines []byte) error {
	f, err := os.OpenFile(root.path(name), os.O_CREATE|os.O_RDWR|os.O_APPEND, fileMode)
	if err != nil {
		return err
	}
	if torn(f) {
		lines = slices.Concat([]byte("\n"), lines)
	}
	_, err = f.Write(lines)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// torn reports whether the file ends with half a line, which a loss of power left. The next line must not continue it.
func torn(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false
	}
	last := make([]byte, 1)
	_, err = f.ReadAt(last, info.Size()-1)
	return err == nil && last[0] != '\n'
}

func (root folder) rename(from, to string) error { return os.Rename(root.path(from), root.path(to)) }
func (root folder) remove(name string) error     { return os.Remove(root.path(name)) }

func (root folder) sync(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // Windows cannot sync a folder; NTFS journals its names
	}
	f, err := os.Open(root.path(dir))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
