package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/punch"
)

// An Outbox keeps the punches of a device on disk from before their first attempt until their receipt. Punches that the
// service refused for good move to a quarantine. An Outbox never drops a punch by itself: when it is full, it refuses the
// next one.
//
// Several processes and goroutines may use one folder at once. DESIGN.md describes the files and why a crash at any step
// loses no punch.
type Outbox struct {
	cfg   OutboxConfig
	disk  disk
	mutex chan struct{} // holds a token while a goroutine has the folder; waiters take it in their order
	holds holds
	slot  uploadSlot
}

// OutboxConfig names the folder of an Outbox and its bounds. Dir is required.
type OutboxConfig struct {
	Dir string
	// Company is the company of the punches, as the tokens name it. The folder remembers it. OpenOutbox then refuses the
	// folder for another company, because a flush would record the punches for that company. If Company is empty, there
	// is no check.
	Company string
	// MaxItems bounds the number of waiting and quarantined punches. The default is 10,000, five days of a gate that 500
	// people pass four times a day.
	MaxItems int
	// MaxBytes bounds the size of their files. The default is 16 MiB. Only 10,000 punches with long notes reach it.
	MaxBytes int64
	// Batch is the most punches of one request, MaxBatch by default.
	Batch int
	// Concurrency is how many batches are sent at once. The default is 2: one is on its way while the answers of the
	// other are written to disk. More would slow down the punches of people at the gate.
	Concurrency int
	// Receipts keeps each receipt as a line of JSON in receipts.jsonl.
	Receipts bool
	// Log gets the failures of the disk that lose no punch, which no return value tells. By default they are dropped.
	Log *slog.Logger
	// Clock tells when a punch was kept or refused. The default is time.Now.
	Clock func() time.Time
}

const (
	defaultMaxItems    = 10_000
	highestMaxItems    = 1_000_000 // each Put lists all files
	defaultMaxBytes    = 16 << 20
	defaultConcurrency = 2
	// maxConcurrency times MaxBatch is the most that a device may send at once.
	maxConcurrency = 16
	// lockWait bounds the wait for the lock of the folder. Its holder does a few steps on the disk, at worst on a slow
	// memory card.
	lockWait = 10 * time.Second
)

// Errors of an outbox. Errors of the disk are wrapped unchanged.
var (
	// ErrOutboxFull says that the punch was not kept. No other punch was dropped for it.
	ErrOutboxFull = errors.New("outbox: full")
	// ErrOtherPunch says that the outbox holds another punch under this id.
	ErrOtherPunch = errors.New("outbox: the id is used for another punch")
	// ErrNotInQuarantine says that the quarantine holds no punch under this id.
	ErrNotInQuarantine = errors.New("outbox: not in quarantine")
	// ErrCorrected says that a person has corrected the quarantined punch already.
	ErrCorrected = errors.New("outbox: the punch was corrected already")
	// ErrFlushing says that another process or goroutine is flushing this outbox.
	ErrFlushing = errors.New("outbox: another flush is running")
	// ErrNotKept says that the punch could not be kept and is not known to be recorded.
	ErrNotKept = errors.New("outbox: could not keep the punch")
	// ErrOutboxFormat says that the folder belongs to another company or has an unknown version.
	ErrOutboxFormat = errors.New("outbox: not for this program")
)

// Names in the folder of an outbox.
const (
	formatFile     = "format"
	lockName       = "lock"
	flushLock      = "flush.lock"
	waitingDir     = "waiting"
	quarantineDir  = "quarantine"
	punchExt       = ".punch"
	corruptExt     = ".corrupt"
	tempExt        = ".tmp"
	formatVersion  = 1
	maxFormatBytes = 1 << 10
)

// OpenOutbox opens the outbox in a folder. It creates a missing folder. No file stays open between calls, so an Outbox
// has no Close.
func OpenOutbox(cfg OutboxConfig) (*Outbox, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	for _, dir := range []string{cfg.Dir, folder(cfg.Dir).path(waitingDir), folder(cfg.Dir).path(quarantineDir)} {
		if err := makeFolder(dir); err != nil {
			return nil, fmt.Errorf("outbox: %w", err)
		}
	}
	return openOutbox(cfg, folder(cfg.Dir))
}

func openOutbox(cfg OutboxConfig, d disk) (*Outbox, error) {
	o := &Outbox{cfg: cfg.withDefaults(), disk: d, mutex: make(chan struct{}, 1)}
	if err := o.locked(context.Background(), o.checkFormat); err != nil {
		return nil, err
	}
	return o, nil
}

// Validate names the first field with an invalid value. A zero value stands for the default.
func (cfg *OutboxConfig) Validate() error {
	if cfg.Dir == "" {
		return errors.New("setting Dir: is needed")
	}
	for _, n := range []struct {
		name           string
		value, highest int
	}{
		{"MaxItems", cfg.MaxItems, highestMaxItems},
		{"Batch", cfg.Batch, MaxBatch},
		{"Concurrency", cfg.Concurrency, maxConcurrency},
	} {
		if n.value < 0 || n.value > n.highest {
			return fmt.Errorf("setting %s: must be 1 to %d, is %d", n.name, n.highest, n.value)
		}
	}
	if cfg.MaxBytes != 0 && cfg.MaxBytes < maxEntryBytes {
		return fmt.Errorf("setting MaxBytes: must be at least %d, is %d", maxEntryBytes, cfg.MaxBytes)
	}
	return nil
}

func (cfg OutboxConfig) withDefaults() OutboxConfig {
	cfg.MaxItems = cmp.Or(cfg.MaxItems, defaultMaxItems)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, defaultMaxBytes)
	cfg.Batch = cmp.Or(cfg.Batch, MaxBatch)
	cfg.Concurrency = cmp.Or(cfg.Concurrency, defaultConcurrency)
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// formatJSON is the content of the format file.
type formatJSON struct {
	Format  int    `json:"format"`
	Company string `json:"company,omitempty"`
}

// checkFormat runs under the lock.
func (o *Outbox) checkFormat() error {
	want := formatJSON{Format: formatVersion, Company: o.cfg.Company}
	content, err := o.disk.read(formatFile, maxFormatBytes)
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
			return fmt.Errorf("%w: the folder belongs to company %s, the token to company %s", ErrOutboxFormat, found.Company, want.Company)
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

// Put stores a punch durably. The same punch again changes nothing. If the service refused it in between, the error is
// the *Error of the refusal. r needs an ID.
func (o *Outbox) Put(ctx context.Context, r Request) error {
	if r.ID == (punch.ID{}) {
		return unsendable(r.ID, errors.New("the punch has no id"))
	}
	e := Entry{Request: r, KeptAt: o.cfg.Clock(), revision: 1}
	content, err := e.encode()
	if err != nil {
		return unsendable(r.ID, err)
	}
	return o.locked(ctx, func() error {
		in, err := o.scan()
		if err != nil {
			return err
		}
		return o.put(in, &e, content, o.checkRoom)
	})
}

// put stores e unless it is stored already. room decides whether the outbox takes another file of some bytes.
func (o *Outbox) put(in *inventory, e *Entry, content []byte, room func(*inventory, int64) error) error {
	name := e.ID.String() + punchExt
	for _, dir := range []string{waitingDir, quarantineDir} {
		if !in.has(dir, name) {
			continue
		}
		old, err := o.load(dir, name)
		switch {
		case errors.Is(err, errCorrupt) && dir == waitingDir:
			err = o.quarantineCorrupt(in, name) // the intact punch takes its place
		case err == nil && !old.equals(e.Request):
			err = ErrOtherPunch
		case err == nil && dir == quarantineDir:
			err = old.refusalError()
		case err == nil:
			return nil
		}
		if err != nil {
			return err
		}
	}
	if err := room(in, int64(len(content))); err != nil {
		return err
	}
	return o.replace(waitingDir, name, content)
}

// checkRoom returns ErrOutboxFull and the reached bound if another file does not fit.
func (o *Outbox) checkRoom(in *inventory, size int64) error {
	waiting, quarantined := len(in.waiting), len(in.quarantined)
	if waiting+quarantined >= o.cfg.MaxItems {
		return fmt.Errorf("%w: %d punches wait and %d are in quarantine, the bound is %d punches",
			ErrOutboxFull, waiting, quarantined, o.cfg.MaxItems)
	}
	if int64(waiting+quarantined+1)*maxEntryBytes <= o.cfg.MaxBytes {
		return nil // the files fit whatever their sizes are
	}
	sum := size
	for dir, names := range map[string][]string{waitingDir: in.waiting, quarantineDir: in.quarantined} {
		for _, name := range names {
			size, err := o.disk.size(dir + "/" + name)
			if err != nil {
				return fmt.Errorf("outbox: %w", err)
			}
			sum += size
		}
	}
	if sum > o.cfg.MaxBytes {
		return fmt.Errorf("%w: with this punch, %d waiting and %d quarantined punches would take %d bytes, the bound is %d bytes",
			ErrOutboxFull, waiting, quarantined, sum, o.cfg.MaxBytes)
	}
	return nil
}

// locked calls fn while no other process or goroutine changes the folder.
func (o *Outbox) locked(ctx context.Context, fn func() error) error {
	select {
	case o.mutex <- struct{}{}:
		defer func() { <-o.mutex }()
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
