//go:build unix

package keyrotation

import (
	"os"
	"syscall"
	"testing"
)

func TestFileKeepsItsOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may change the owner of a file")
	}
	p := newWorld(t)
	path := p.file([][]byte{NewKey()}, "a")
	const other = 65534
	if err := os.Chown(path, other, other); err != nil {
		t.Fatal(err)
	}
	if _, err := p.rotation().Add(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); owner.Uid != other || owner.Gid != other || info.Mode() != 0o600 {
		t.Errorf("the file belongs to %d:%d with mode %v, want %d:%d and 0600", owner.Uid, owner.Gid, info.Mode(), other, other)
	}
}
