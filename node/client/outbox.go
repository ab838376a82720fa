package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/punch"
)

// An Outbox keeps the punches of a device on disk from before their first
// attempt until a receipt, and sets those aside in a quarantine that were
// refused for good. It never drops one by itself: it refuses when it is full.
//
// Each punch is one file, written under another name, synced, renamed, and its
// folder synced. A log of all punches would need fewer syncs, but a device
// loses power and wears its memory out: here a damaged block costs one punch
// and not those behind it, removing one needs no rewriting of others, and a
// person can read what is there.
//
// A crash or a loss of power at any step leaves the punch where it was or
// where it was to go, and at worst it is sent once more under the same id,
// which the service answers with the receipt of the first time. Several
// processes, and several goroutines, may use one folder at once.
type Outbox struct {
	cfg  OutboxConfig
	disk disk
	turn chan struct{} // holds a token while a goroutine has the lock: first come, first served
}

// OutboxConfig tells an Outbox where and how much to keep. Dir is required.
type OutboxConfig struct {
	Dir string
	// Company is whose punches these are, as the tokens say: whoever flushes
	// a folder under another company's token records them for that company.
	// The folder remembers it. Empty: it is not checked.
	Company string
	// MaxItems bounds waiting and quarantined punches together. The default
	// is 10,000: five days of a gate that 500 people pass four times a day.
	MaxItems int
	// MaxBytes bounds their files. The default is 16 MiB, which 10,000
	// punches reach only with long notes.
	MaxBytes int64
	// Batch is the most punches of one request, MaxBatch by default.
	Batch int
	// Concurrency is how many batches are sent at once, 2 by default: the one
	// is on its way while the other's answers are written to disk. More would
	// only take from those who are at the gate now.
	Concurrency int
	// Receipts keeps each receipt as a line of JSON in receipts.jsonl.
	Receipts bool
	// Logger hears when the disk fails and no punch is lost by it, so that
	// nobody else is told. By default nobody hears it.
	Logger *slog.Logger
	// Clock tells when a punch was kept or refused, time.Now by default.
	Clock func() time.Time
}

const (
	defaultMaxItems    = 10_000
	defaultMaxBytes    = 16 << 20
	defaultConcurrency = 2
	// maxConcurrency times MaxBatch is what one device may ask at once.
	maxConcurrency = 16
	// lockWait bounds the wait for the folder's lock. Who holds it does a few
	// steps on the disk, at worst on a slow card.
	lockWait = 10 * time.Second
)

// Errors of an outbox. Errors of the disk itself are passed on as they are.
var (
	// ErrOutboxFull: the punch was not kept, and no other one was dropped.
	ErrOutboxFull = errors.New("outbox: full")
	// ErrOtherPunch: the outbox holds another punch under this id.
	ErrOtherPunch = errors.New("outbox: the id is used for another punch")
	// ErrNotInQuarantine: nothing is set aside under this id.
	ErrNotInQuarantine = errors.New("outbox: not in quarantine")
	// ErrFlushing: somebody else flushes this outbox right now.
	ErrFlushing = errors.New("outbox: is being flushed already")
	// ErrNotKept: the punch was neither recorded as far as known nor kept.
	ErrNotKept = errors.New("outbox: could not keep the punch")
	// ErrOutboxFormat: the folder is another company's, or of a version that
	// this program does not know.
	ErrOutboxFormat = errors.New("outbox: not for this program")
)

// Names in an outbox's folder.
const (
	formatFile  = "format"
	lockName    = "lock"
	flushLock   = "flush.lock"
	waitingDir  = "waiting"
	asideDir    = "quarantine"
	punchExt    = ".punch"
	corruptExt  = ".corrupt"
	temporary   = ".tmp"
	outboxForm  = 1
	maxFormFile = 1 << 10
)

// OpenOutbox opens the outbox in a folder, and makes it when it is missing.
// Nothing stays open between calls: there is no Close.
func OpenOutbox(cfg OutboxConfig) (*Outbox, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	for _, dir := range []string{cfg.Dir, folder(cfg.Dir).path(waitingDir), folder(cfg.Dir).path(asideDir)} {
		if err := makeFolder(dir); err != nil {
			return nil, fmt.Errorf("outbox: %w", err)
		}
	}
	return openOutbox(cfg, folder(cfg.Dir))
}

func openOutbox(cfg OutboxConfig, d disk) (*Outbox, error) {
	o := &Outbox{cfg: cfg, disk: d, turn: make(chan struct{}, 1)}
	if err := o.locked(context.Background(), o.checkFormat); err != nil {
		return nil, err
	}
	return o, nil
}

// complete fills in the defaults and checks the rest.
func (cfg *OutboxConfig) complete() error {
	if cfg.Dir == "" {
		return errors.New("setting Dir: is needed")
	}
	for _, n := range []struct {
		name              string
		value             *int
		fallback, highest int
	}{
		{"MaxItems", &cfg.MaxItems, defaultMaxItems, 1_000_000}, // each store lists them all
		{"Batch", &cfg.Batch, MaxBatch, MaxBatch},
		{"Concurrency", &cfg.Concurrency, defaultConcurrency, maxConcurrency},
	} {
		if *n.value == 0 {
			*n.value = n.fallback
		}
		if *n.value < 1 || *n.value > n.highest {
			return fmt.Errorf("setting %s: must be 1 to %d, is %d", n.name, n.highest, *n.value)
		}
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if cfg.MaxBytes < maxKeptBytes {
		return fmt.Errorf("setting MaxBytes: must be at least %d, is %d", maxKeptBytes, cfg.MaxBytes)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// formatJSON is what the format file says.
type formatJSON struct {
	Format  int    `json:"format"`
	Company string `json:"company,omitempty"`
}

// checkFormat is called under the lock.
func (o *Outbox) checkFormat() error {
	want := formatJSON{Format: outboxForm, Company: o.cfg.Company}
	content, err := o.disk.read(formatFile, maxFormFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("outbox: %w", err)
	}
	var found formatJSON
	if err == nil {
		if err := json.Unmarshal(content, &found); err != nil {
			return fmt.Errorf("%w: file %s: %w", ErrOutboxFormat, formatFile, err)
		}
		if found.Format != want.Format {
			return fmt.Errorf("%w: the folder has format %d, this program knows %d", ErrOutboxFormat, found.Format, want.Format)
		}
		if found.Company != "" && want.Company != "" && found.Company != want.Company {
			return fmt.Errorf("%w: the folder is company %s's, the token is company %s's", ErrOutboxFormat, found.Company, want.Company)
		}
		if found.Company != "" || want.Company == "" {
			return nil
		}
	}
	if content, err = json.Marshal(want); err != nil {
		return fmt.Errorf("outbox: setting Company: %w", err)
	}
	return o.replace(".", formatFile, append(content, '\n'))
}

// Put stores a punch durably. The same punch again changes nothing; when it
// was refused in between, the error is that *Error. r needs an ID.
func (o *Outbox) Put(ctx context.Context, r Request) error {
	if r.ID == (punch.ID{}) {
		return unsendable(r.ID, errors.New("the punch has no id"))
	}
	k := Kept{Request: r, KeptAt: o.cfg.Clock(), revision: 1}
	content, err := encodeKept(&k)
	if err != nil {
		return unsendable(r.ID, err)
	}
	return o.locked(ctx, func() error { return o.put(&k, content) })
}

func (o *Outbox) put(k *Kept, content []byte) error {
	in, err := o.scan()
	if err != nil {
		return err
	}
	name := k.ID.String() + punchExt
	for _, dir := range []string{waitingDir, asideDir} {
		if !in.has(dir, name) {
			continue
		}
		old, err := o.load(dir, name)
		switch {
		case errors.Is(err, errCorrupt) && dir == waitingDir:
			err = o.setAside(in, name) // and the good one takes its place
		case err == nil && !old.same(k.Request):
			err = ErrOtherPunch
		case err == nil && dir == asideDir:
			err = old.refused()
		case err == nil:
			return nil
		}
		if err != nil {
			return err
		}
	}
	if err := o.room(in, int64(len(content))); err != nil {
		return err
	}
	return o.replace(waitingDir, name, content)
}

// room returns ErrOutboxFull when another file does not fit.
func (o *Outbox) room(in *inventory, size int64) error {
	n := len(in.waiting) + len(in.aside)
	if n >= o.cfg.MaxItems {
		return fmt.Errorf("%w: %d punches wait and %d are in quarantine, at most %d are kept", ErrOutboxFull, len(in.waiting), len(in.aside), o.cfg.MaxItems)
	}
	if int64(n+1)*maxKeptBytes <= o.cfg.MaxBytes {
		return nil // whatever their sizes are
	}
	sum := size
	for dir, names := range map[string][]string{waitingDir: in.waiting, asideDir: in.aside} {
		for _, name := range names {
			size, err := o.disk.size(dir + "/" + name)
			if err != nil {
				return fmt.Errorf("outbox: %w", err)
			}
			sum += size
		}
	}
	if sum > o.cfg.MaxBytes {
		return fmt.Errorf("%w: %d waiting and %d quarantined punches would take %d bytes, more than %d", ErrOutboxFull, len(in.waiting), len(in.aside), sum, o.cfg.MaxBytes)
	}
	return nil
}

// locked does fn while no other process or goroutine changes the folder.
func (o *Outbox) locked(ctx context.Context, fn func() error) error {
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return fmt.Errorf("outbox: %w", context.Cause(ctx))
	}
	unlock, err := o.disk.lock(ctx, lockName, lockWait)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	defer unlock()
	return fn()
}
