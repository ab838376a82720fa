package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// Quarantined returns the punches that were refused for good and the files that cannot be read, oldest first. An error
// may come together with the punches that could be read.
func (o *Outbox) Quarantined(ctx context.Context) ([]Entry, error) {
	in, err := o.lockedScan(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := o.loadAll(ctx, in.waiting); err != nil { // moves damaged files to the quarantine
		return nil, err
	}
	if in, err = o.lockedScan(ctx); err != nil {
		return nil, err
	}
	var all []Entry
	var errs []error
	for _, name := range in.quarantined {
		e, err := o.loadDamaged(name)
		switch {
		case err == nil:
			all = append(all, e)
		case !errors.Is(err, fs.ErrNotExist): // another process may have released it
			errs = append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}

// loadDamaged reads a quarantined file. Of a damaged file it returns the id and the reason.
func (o *Outbox) loadDamaged(name string) (Entry, error) {
	e, err := o.load(quarantineDir, name)
	if !errors.Is(err, errCorrupt) {
		return e, err
	}
	id, _ := punch.ParseID(name[:idLength]) // isPunchFile has checked it
	return Entry{Request: Request{ID: id}, Corrupt: err, File: quarantineDir + "/" + name}, nil
}

// Release moves a quarantined punch back to the waiting ones. A person calls it after removing the reason of the refusal.
// A damaged punch stays in the quarantine, and so does a corrected one.
func (o *Outbox) Release(ctx context.Context, id punch.ID) error {
	return o.locked(ctx, func() error {
		in, name, err := o.findQuarantined(id)
		if err != nil {
			return err
		}
		e, err := o.load(quarantineDir, name)
		if err != nil {
			return err
		}
		if e.Correction != nil {
			return fmt.Errorf("%w: %s stands for %s", ErrCorrected, e.Correction.ID, id)
		}
		to := id.String() + punchExt
		if in.has(waitingDir, to) { // a caller put the punch again after this file was damaged
			return fmt.Errorf("%w: %s waits", ErrOtherPunch, id)
		}
		e.Refusal = nil
		e.revision++
		content, err := e.encode()
		if err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
		if err := o.replace(waitingDir, to, content); err != nil {
			return err
		}
		return o.removeDurably(in, quarantineDir, name)
	})
}

// Discard removes a quarantined punch and returns it. A person calls it after settling the punch in another way. It also
// takes a waiting punch that is ahead of this machine's clock, as Correct does.
func (o *Outbox) Discard(ctx context.Context, id punch.ID) (e Entry, err error) {
	err = o.locked(ctx, func() error {
		in, name, err := o.findForPerson(id)
		if err != nil {
			return err
		}
		if e, err = o.loadDamaged(name); err != nil {
			return err
		}
		// A loss of power must not bring the punch back among the waiting ones.
		if err := o.syncDir(waitingDir); err != nil {
			return err
		}
		return o.removeDurably(in, quarantineDir, name)
	})
	return e, err
}

// Correct sends a quarantined punch with the time at which it really happened. A person calls it, for example for the
// punches of a device whose clock was wrong. The corrected punch gets a new id and waits. The old punch stays in the
// quarantine as evidence, with its Correction, until a person discards it.
//
// Correct also takes a waiting punch that is ahead of this machine's clock by more than 15 minutes. It is one that a
// device with a wrong clock made before a person set that clock, and moves to the quarantine first.
//
// A repeated call with the same time returns the same punch. With another time the error is ErrCorrected. A full outbox
// does not prevent a correction.
func (o *Outbox) Correct(ctx context.Context, id punch.ID, at time.Time) (corrected Entry, err error) {
	at = punch.Microseconds(at)
	err = o.locked(ctx, func() error {
		in, name, err := o.findForPerson(id)
		if err != nil {
			return err
		}
		old, err := o.load(quarantineDir, name)
		if err != nil {
			return err
		}
		if old.Correction != nil && !old.Correction.PunchedAt.Equal(at) {
			return fmt.Errorf("%w: %s stands for %s", ErrCorrected, old.Correction.ID, id)
		}
		corrected = Entry{Request: old.Request, KeptAt: o.cfg.Clock(), Corrects: id, revision: 1}
		corrected.ID, corrected.At = correctedID(id, at), at
		if old.Correction != nil {
			return nil
		}
		content, err := corrected.encode()
		if err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
		// The new punch comes first: after a crash in between, the old one is still shown as not corrected, and the same
		// call makes the same id.
		unbounded := func(*inventory, int64) error { return nil }
		if err := o.put(in, &corrected, content, unbounded); err != nil && !IsFinal(err) {
			return err
		}
		old.Correction = &Correction{At: o.cfg.Clock().UTC(), ID: corrected.ID.String(), PunchedAt: at}
		if content, err = old.encode(); err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
		return o.replace(quarantineDir, name, content)
	})
	if err != nil {
		return Entry{}, err
	}
	return corrected, nil
}

// correctedID derives the id of a corrected punch from the old id and the right time. A correction that a crash
// interrupted can thus be repeated without a second punch.
func correctedID(old punch.ID, at time.Time) punch.ID {
	id := punch.IDAt(at)
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", old, at.UnixMicro()))
	id[6] = id[6]&0xf0 | sum[6]&0x0f // keeps the version of a UUIDv7
	id[7] = sum[7]
	id[8] = id[8]&0xc0 | sum[8]&0x3f // keeps its variant
	copy(id[9:], sum[9:len(id)])
	return id
}

func (o *Outbox) findQuarantined(id punch.ID) (in *inventory, name string, _ error) {
	in, err := o.scan()
	if err != nil {
		return nil, "", err
	}
	if name = in.quarantinedName(id); name == "" {
		return nil, "", fmt.Errorf("%w: %s", ErrNotInQuarantine, id)
	}
	return in, name, nil
}

func (in *inventory) quarantinedName(id punch.ID) string {
	text := id.String()
	if in.has(quarantineDir, text+punchExt) {
		return text + punchExt
	}
	if i := slices.IndexFunc(in.quarantined, func(n string) bool { return strings.HasPrefix(n, text) }); i >= 0 {
		return in.quarantined[i]
	}
	return ""
}

// findForPerson is findQuarantined for what a person decides. A waiting punch that is ahead of this machine's clock moves
// to the quarantine first. No node can have recorded it, since its time has not come.
func (o *Outbox) findForPerson(id punch.ID) (in *inventory, name string, _ error) {
	in, err := o.scan()
	if err != nil {
		return nil, "", err
	}
	name = id.String() + punchExt
	if in.quarantinedName(id) != "" || !in.has(waitingDir, name) {
		return o.findQuarantined(id)
	}
	e, err := o.load(waitingDir, name)
	if err != nil {
		return nil, "", err
	}
	ahead := e.Time().Sub(o.cfg.Clock())
	if ahead <= defaultMaxClockAhead {
		return nil, "", fmt.Errorf("%w: %s waits", ErrNotInQuarantine, id)
	}
	refusal := &Error{
		ID: id, Code: punch.ClockAhead, Final: true,
		Detail: "the punch is " + ahead.Round(time.Second).String() + " ahead of the clock of this device",
	}
	if err := o.quarantine(id, refusal); err != nil {
		return nil, "", err
	}
	return o.findQuarantined(id)
}
