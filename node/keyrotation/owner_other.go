//go:build !unix

package keyrotation

import "os"

// keepOwner does nothing: this system has no owners to keep.
func keepOwner(*os.File, os.FileInfo) error { return nil }
