//go:build unix

package client

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes a lock that belongs to the opened file, so that it also keeps
// two goroutines apart which opened it each, and ends with the process.
func lockFile(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errBusy
		default:
			return err
		}
	}
}
