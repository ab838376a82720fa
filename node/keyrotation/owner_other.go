//go:build !unix

package keyrotation

import "os"

// keepOwner has nothing to keep.
func keepOwner(*os.File, os.FileInfo) error { return nil }
