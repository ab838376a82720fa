package tracing

import (
	"context"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Counters holds the series of an observable counter, for what every punch counts. An addition takes some nanoseconds.
// The SDK's own counter resolves attributes and looks for an exemplar each time, which takes as long as the digest of a
// token. The zero value is ready to use. It is safe for concurrent use.
type Counters struct {
	mu   sync.Mutex // guards list
	list []*Counter
}

// Counter is one series of Counters.
type Counter struct {
	n     atomic.Int64
	attrs metric.MeasurementOption
}

// With adds the series of the attributes, which begins at 0. The caller must add each set of attributes once.
func (c *Counters) With(attrs ...attribute.KeyValue) *Counter {
	one := &Counter{attrs: metric.WithAttributeSet(attribute.NewSet(attrs...))}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, one)
	return one
}

// Add counts n.
func (c *Counter) Add(n int) { c.n.Add(int64(n)) }

// Observe is the callback of the instrument.
func (c *Counters) Observe(_ context.Context, o metric.Int64Observer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.list {
		o.Observe(one.n.Load(), one.attrs)
	}
	return nil
}
