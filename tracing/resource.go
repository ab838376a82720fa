package tracing

import (
	"context"

	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// newResource describes this process. The environment may rename the service and add attributes. It cannot change the
// node.
func newResource(ctx context.Context, cfg Config) (*resource.Resource, error) {
	defaults, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithProcessPID(),
		resource.WithAttributes(semconv.ServiceName(cfg.Service), semconv.ServiceVersion(cfg.Version)),
		resource.WithFromEnv(), // the last option wins
	)
	if err != nil {
		return nil, err
	}
	return resource.Merge(defaults, resource.NewSchemaless(
		semconv.ServiceInstanceID(cfg.Node), semconv.CloudRegion(cfg.Region)))
}
