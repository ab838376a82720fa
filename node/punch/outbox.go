package punch

import "context"

// outboxKey marks the context of a stored punch.
type outboxKey struct{}

// WithOutbox marks the punches recorded under ctx as stored ones: a device empties its outbox, and no person waits.
func WithOutbox(ctx context.Context) context.Context {
	return context.WithValue(ctx, outboxKey{}, true)
}

// FromOutbox reports whether WithOutbox has marked the context.
func FromOutbox(ctx context.Context) bool { return ctx.Value(outboxKey{}) != nil }
