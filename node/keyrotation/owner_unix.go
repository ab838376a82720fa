//go:build unix

package keyrotation

import (
	"os"
	"syscall"
)

// keepOwner gives the new file the owner of the old file. A node may run under another account than the operator, and
// must be able to read the file.
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
		return nil // without this check only root could change a file, even its own
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
