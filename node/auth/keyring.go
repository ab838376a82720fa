package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// keyring holds the current key set and keeps it fresh. Its goroutine is the
// only one that reads the source after the start.
type keyring struct {
	source      source
	cacheFile   string // last good set of a URL, empty for none
	development bool
	log         *slog.Logger
	clock       func() time.Time
	count       func(outcome string)

	current   atomic.Pointer[keySet]
	refreshed atomic.Int64 // when the source last answered well, Unix nanoseconds; 0 for never

	raw     []byte // what current was made of; the goroutine's own
	limiter *rate.Limiter
	asked   chan chan struct{} // a caller that met an unknown key; closed when dealt with

	stop    context.CancelFunc
	stopped chan struct{}
}

// start reads the keys for the first time and then keeps them fresh until
// close.
func (k *keyring) start(ctx context.Context) error {
	if err := k.load(ctx); err != nil {
		return err
	}
	ctx, k.stop = context.WithCancel(context.WithoutCancel(ctx))
	go k.run(ctx)
	return nil
}

func (k *keyring) close() {
	k.stop()
	<-k.stopped
}

// load reads the source, or what it last said when it does not answer: a node
// must be able to restart while the issuer is away.
func (k *keyring) load(ctx context.Context) error {
	err := k.refresh(ctx, true)
	var refused *refusedError
	if err == nil || k.cacheFile == "" || errors.As(err, &refused) {
		return err
	}
	raw, cacheErr := os.ReadFile(k.cacheFile)
	if cacheErr == nil {
		cacheErr = k.adopt(raw, true)
	}
	if cacheErr != nil {
		return errors.Join(err, fmt.Errorf("token keys: %s: %w", k.cacheFile, cacheErr))
	}
	k.log.WarnContext(ctx, "token keys cannot be read; using those that were kept on disk",
		"source", k.source.name, "kept", k.cacheFile, "error", err)
	return nil
}

func (k *keyring) run(ctx context.Context) {
	defer close(k.stopped)
	ticker := time.NewTicker(k.source.period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			k.refreshLogged(ctx)
		case done := <-k.asked:
			if k.limiter.AllowN(k.clock(), 1) {
				k.refreshLogged(ctx)
			}
			close(done)
		}
	}
}

// find returns the key of that id from the current set or, when it is not
// there, from a fresh one.
func (k *keyring) find(ctx context.Context, id string) (verifyKey, *keySet, bool) {
	set := k.current.Load()
	if key, ok := set.byID[id]; ok {
		return key, set, true
	}
	k.ask(ctx)
	set = k.current.Load()
	key, ok := set.byID[id]
	return key, set, ok
}

// ask waits until the keyring has looked whether there are new keys, or found
// that it looked only a moment ago.
func (k *keyring) ask(ctx context.Context) {
	done := make(chan struct{})
	select {
	case k.asked <- done:
	case <-ctx.Done():
		return
	case <-k.stopped:
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	case <-k.stopped:
	}
}

func (k *keyring) refreshLogged(ctx context.Context) {
	if err := k.refresh(ctx, false); err != nil && ctx.Err() == nil {
		k.log.ErrorContext(ctx, "token keys cannot be refreshed; keeping the ones in use", "error", err)
	}
}

func (k *keyring) refresh(ctx context.Context, first bool) (err error) {
	defer func() {
		if err != nil {
			k.count("failed")
			return
		}
		k.count("read")
		k.refreshed.Store(k.clock().UnixNano())
	}()
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	raw, err := k.source.read(ctx)
	if err != nil {
		return fmt.Errorf("token keys: %s: %w", k.source.name, err)
	}
	if !first && bytes.Equal(raw, k.raw) {
		return nil
	}
	if err := k.adopt(raw, first); err != nil {
		return fmt.Errorf("token keys: %s: %w", k.source.name, err)
	}
	k.keep(ctx, raw)
	return nil
}

// refusedError says that a key set was read well and must not be used.
type refusedError struct{ ids []string }

func (e *refusedError) Error() string {
	return fmt.Sprintf("holds the development key %s, which production settings refuse; remove it, or set --development where nothing is at stake",
		strings.Join(e.ids, ", "))
}

// adopt makes raw the current key set. A development key is fatal at the
// start, where somebody is looking; later it is left out and the others are
// taken.
func (k *keyring) adopt(raw []byte, first bool) error {
	keys, skipped, err := parseKeys(raw)
	for _, why := range skipped {
		k.log.Warn("a token key is not used", "source", k.source.name, "error", why)
	}
	if err != nil {
		return err
	}
	if ids := developmentKeys(keys); len(ids) > 0 && !k.development {
		if first {
			return &refusedError{ids: ids}
		}
		for _, id := range ids {
			delete(keys, id)
		}
		k.log.Error("DEVELOPMENT KEY PUBLISHED: tokens signed with it are refused; find out who put it there",
			"source", k.source.name, "keys", ids)
		if len(keys) == 0 {
			return errNoKeys
		}
	}
	next := &keySet{byID: keys, generation: 1}
	if old := k.current.Load(); old != nil {
		next.generation = old.generation + 1
	}
	k.raw = raw
	k.current.Store(next)
	return nil
}

// keep writes the set to the disk for a start while the source is away. Public
// keys are no secret, but who can write the file can sign tokens.
func (k *keyring) keep(ctx context.Context, raw []byte) {
	if k.cacheFile == "" {
		return
	}
	if err := replaceFile(k.cacheFile, raw, 0o600); err != nil {
		k.log.WarnContext(ctx, "token keys cannot be kept on disk", "error", err)
	}
}
