package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// ErrHeld is returned for a lock that somebody holds.
var ErrHeld = errors.New("somebody holds it")

// tryLock reports whether the lock of f was free and is now f's. It belongs to
// the opened file: whoever inherits that holds it on, and the kernel frees it
// with the last of them, however that ends.
func tryLock(f *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case err != nil:
			return false, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		default:
			return true, nil
		}
	}
}

// Hold takes the lock of a file, which it makes if need be, until release or the
// end of this process. It is ErrHeld when somebody else has it. The file stays:
// to remove it would let two hold files of one name.
func Hold(path string) (release func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	free, err := tryLock(f)
	if err == nil && !free {
		err = ErrHeld
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// Await is Hold that waits for whoever has the lock, until ctx ends.
func Await(ctx context.Context, path string) (release func() error, err error) {
	for {
		release, err := Hold(path)
		if !errors.Is(err, ErrHeld) {
			return release, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w: %w", path, err, ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}
