//go:build unix

package keyrotation

import (
	"os"
	"syscall"
)

// keepOwner gives the file the owner of the one whose place it takes: a node
// that runs under another account than the operator must be able to read it.
func keepOwner(f *os.File, old os.FileInfo) error {
	owner, ok := old.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if own, ok := info.Sys().(*syscall.Stat_t); ok && own.Uid == owner.Uid && own.Gid == owner.Gid {
		return nil // else nobody but root could change his own file
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
