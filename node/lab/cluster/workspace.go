package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/punchclock/punchclock/node/certs"
)

// workspace belongs to all processes of one cluster: a folder for data and logs, the thread that starts the processes,
// and their part of the loopback network.
type workspace struct {
	dir      string
	keep     atomic.Bool
	released atomic.Bool // the networks are closed
	certs    certs.Dir
	spawner  *spawner
	loopback loopback
	network  *network // nil unless each region has its own
	log      *slog.Logger
	// pick is freeAddrs. Tests replace it.
	pick func(host string, n int) ([]string, error)
}

func newWorkspace(cfg Config) (*workspace, error) {
	dir, err := os.MkdirTemp(cfg.Dir, "punchclock-")
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	// The database may run under another account. It must reach its folder inside, and need not list this one.
	if err := errors.Join(os.Chmod(dir, 0o711), os.Mkdir(filepath.Join(dir, "logs"), 0o755), os.Mkdir(filepath.Join(dir, "data"), 0o711)); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	w := &workspace{dir: dir, certs: certs.Dir(filepath.Join(dir, "certs")), loopback: newLoopback(), log: cfg.Log, pick: freeAddrs}
	if cfg.Networks {
		if w.network, err = newNetwork(len(cfg.Regions), cfg.RoundTrip); err != nil {
			return nil, errors.Join(fmt.Errorf("cluster: %w", err), os.RemoveAll(dir))
		}
		w.pick = freshAddrs
	}
	w.spawner = newSpawner(cfg.Log, w.network)
	if err := w.makeCertificates(cfg, certificateLife); err != nil {
		return nil, errors.Join(err, w.release(), os.RemoveAll(dir))
	}
	w.keep.Store(cfg.KeepDir)
	return w, nil
}

func (w *workspace) logFile(name string) string { return filepath.Join(w.dir, "logs", name+".log") }

// release ends the thread and the networks.
func (w *workspace) release() error {
	w.spawner.close()
	if w.network == nil || w.released.Swap(true) {
		return nil
	}
	return w.network.close()
}

// close ends the thread and the networks and removes the folder. After a failure, or when keep is set, the folder stays
// as evidence.
func (w *workspace) close(failure error) error {
	failure = errors.Join(failure, w.release())
	if failure != nil {
		return fmt.Errorf("%w\ndata and logs are kept in %s", failure, w.dir)
	}
	if w.keep.Load() {
		return nil
	}
	if err := os.RemoveAll(w.dir); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// abandon closes after a start that failed. Only the logs stay, because the data was never in use. Nothing stays when
// the caller gave up.
func (w *workspace) abandon(ctx context.Context, failure error) error {
	failure = errors.Join(failure, w.release())
	if w.keep.Load() {
		return fmt.Errorf("%w\ndata and logs are kept in %s", failure, w.dir)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return errors.Join(failure, os.RemoveAll(w.dir))
	}
	err := os.RemoveAll(filepath.Join(w.dir, "data"))
	return errors.Join(fmt.Errorf("%w\nlogs are kept in %s", failure, filepath.Join(w.dir, "logs")), err)
}
