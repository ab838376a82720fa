//go:build !linux

package load

// Processors are the processors that this process may use. Only Linux can choose among them.
type Processors struct{}

// OwnProcessors returns processors that cannot be split.
func OwnProcessors() (Processors, error) { return Processors{}, nil }

// Split reports that it did nothing.
func (Processors) Split(Processes) (bool, error) { return false, nil }

// Join has nothing to end.
func (Processors) Join(Processes) error { return nil }
