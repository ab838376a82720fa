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
)

// disk is the file system as an outbox needs it: small steps whose order says
// what a loss of power can leave behind. Names are relative to its root.
type disk interface {
	// lock waits for the named lock, which other processes honour and which
	// dies with its process. wait of 0 means one try.
	lock(ctx context.Context, name string, wait time.Duration) (unlock func(), err error)
	// list returns the names of the files in a folder, sorted.
	list(dir string) ([]string, error)
	size(name string) (int64, error)
	// read returns at most limit+1 bytes.
	read(name string, limit int) ([]byte, error)
	// write makes or replaces a file and returns once its content, not yet
	// its name, survives a loss of power.
	write(name string, content []byte) error
	// append adds whole lines to a file and returns once they survive.
	append(name string, lines []byte) error
	// rename replaces what was there under the new name.
	rename(from, to string) error
	remove(name string) error
	// sync returns once the names in a folder survive a loss of power.
	sync(dir string) error
}

// errBusy is returned when a lock is held by somebody else.
var errBusy = errors.New("locked by another process or goroutine")

// Personal data: only the user whose process made it may look.
const (
	folderMode = 0o700
	fileMode   = 0o600
)

// folder is a disk below a folder of the machine's.
type folder string

func (root folder) path(name string) string { return filepath.Join(string(root), name) }

// makeFolder makes a folder and what is missing above it, and returns once all
// of their names survive a loss of power.
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

func (root folder) lock(ctx context.Context, name string, wait time.Duration) (func(), error) {
	f, err := os.OpenFile(root.path(name), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	// Neither flock nor its like can wait for a context. Locks are held for
	// some milliseconds, so that asking again after one loses little.
	const pause, longest = time.Millisecond, 20 * time.Millisecond
	for p := pause; ; p = min(2*p, longest) {
		err := lockFile(f)
		if err == nil {
			return func() { _ = f.Close() }, nil // closing unlocks; nothing was written
		}
		if errors.Is(err, errBusy) && sleep(ctx, p) == nil {
			continue
		}
		return nil, errors.Join(fmt.Errorf("%s: %w", root.path(name), err), f.Close())
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

// torn reports whether a loss of power left half a line, which must not spoil
// the next one.
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
		return nil // folders cannot be synced there; NTFS journals its names
	}
	f, err := os.Open(root.path(dir))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
