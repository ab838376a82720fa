package admission

import "time"

// Open admits everything. Tests of parts behind a gate use it.
type Open struct{}

// Enter admits.
func (Open) Enter(Class, string, int, time.Duration) (time.Duration, bool) { return 0, true }

// Leave does nothing.
func (Open) Leave(int) {}

// Serves serves every class.
func (Open) Serves(Class) (time.Duration, bool) { return 0, true }

// UploadAfter never asks a device to wait.
func (Open) UploadAfter(bool) time.Duration { return 0 }
