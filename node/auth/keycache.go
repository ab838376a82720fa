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

// keyCache holds the current key set and keeps it fresh. After the start, its goroutine alone reads the source.
type keyCache struct {
	source      source
	cacheFile   string // last good set of a URL, empty for none
	development bool
	log         *slog.Logger
	clock       func() time.Time
	count       func(outcome string)

	current   atomic.Pointer[keySet]
	refreshed atomic.Int64 // time of the last good read of the source, Unix nanoseconds; 0 for never

	raw     []byte // the bytes of current; the goroutine's own
	limiter *rate.Limiter
	asked   chan chan struct{} // requests for a refresh; the goroutine closes the inner channel when it is done

	stop    context.CancelFunc // nil before start
	stopped chan struct{}
}

func newKeyCache(cfg Config, deps Deps) *keyCache {
	src := newSource(cfg.JWKS)
	k := &keyCache{
		source: src, cacheFile: cfg.CacheFile, development: cfg.Development,
		log: deps.Log, clock: deps.Clock,
		limiter: rate.NewLimiter(rate.Every(src.onDemand), 1),
		asked:   make(chan chan struct{}), stopped: make(chan struct{}),
	}
	k.current.Store(&keySet{})
	return k
}

// start reads the keys for the first time, and then keeps them fresh until close.
func (k *keyCache) start(ctx context.Context) error {
	if err := k.load(ctx); err != nil {
		return err
	}
	ctx, k.stop = context.WithCancel(context.WithoutCancel(ctx))
	go k.run(ctx)
	return nil
}

func (k *keyCache) close() {
	if k.stop != nil {
		k.stop()
		<-k.stopped
	}
}

// load reads the source, or the file of the last good set when the source does not answer. A node must be able to
// restart while the issuer is down.
func (k *keyCache) load(ctx context.Context) error {
	err := k.refresh(ctx, true)
	var refused *refusedError
	if err == nil || k.cacheFile == "" || errors.As(err, &refused) {
		return err
	}
	raw, cacheErr := os.ReadFile(k.cacheFile)
	if cacheErr == nil {
		cacheErr = k.use(raw, true)
	}
	if cacheErr != nil {
		return errors.Join(err, fmt.Errorf("token keys: %s: %w", k.cacheFile, cacheErr))
	}
	k.log.WarnContext(ctx, "token keys cannot be read; using the last good keys from the disk",
		"source", k.source.name, "file", k.cacheFile, "error", err)
	return nil
}

func (k *keyCache) run(ctx context.Context) {
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

// find returns the key with the id. When the current set does not have it, find waits for a fresh set.
func (k *keyCache) find(ctx context.Context, id string) (verifyKey, *keySet, bool) {
	set := k.current.Load()
	if key, ok := set.byID[id]; ok {
		return key, set, true
	}
	k.ask(ctx)
	set = k.current.Load()
	key, ok := set.byID[id]
	return key, set, ok
}

// ask waits until the goroutine has read the source, or has found that it read the source a moment ago.
func (k *keyCache) ask(ctx context.Context) {
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

func (k *keyCache) refreshLogged(ctx context.Context) {
	if err := k.refresh(ctx, false); err != nil && ctx.Err() == nil {
		k.log.ErrorContext(ctx, "token keys cannot be refreshed; the old keys stay in use", "error", err)
	}
}

func (k *keyCache) refresh(ctx context.Context, first bool) (err error) {
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
	if err := k.use(raw, first); err != nil {
		return fmt.Errorf("token keys: %s: %w", k.source.name, err)
	}
	k.save(ctx, raw)
	return nil
}

// refusedError is for a key set that was read well and must not be used.
type refusedError struct{ ids []string }

func (e *refusedError) Error() string {
	return fmt.Sprintf("contains the development key %s, which production settings refuse; remove it, or set --development on a test system",
		strings.Join(e.ids, ", "))
}

// use makes raw the current key set. A development key is fatal at the start, where a person is watching. Later it is
// left out and the other keys are used.
func (k *keyCache) use(raw []byte, first bool) error {
	keys, skipped, err := parseKeys(raw)
	for _, reason := range skipped {
		k.log.Warn("a token key is not used", "source", k.source.name, "error", reason)
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
		k.log.Error("DEVELOPMENT KEY PUBLISHED: its tokens are refused; find out who published it and remove it",
			"source", k.source.name, "keys", ids)
		if len(keys) == 0 {
			return errNoKeys
		}
	}
	k.raw = raw
	k.current.Store(&keySet{byID: keys, generation: k.current.Load().generation + 1})
	return nil
}

// save writes the set to the disk, for a start while the source is down. The mode is strict although public keys are no
// secret: a process that can write the file can sign tokens.
func (k *keyCache) save(ctx context.Context, raw []byte) {
	if k.cacheFile == "" {
		return
	}
	if err := replaceFile(k.cacheFile, raw, 0o600); err != nil {
		k.log.WarnContext(ctx, "token keys cannot be saved; a restart while the issuer is down would use older keys or fail", "file", k.cacheFile, "error", err)
	}
}
