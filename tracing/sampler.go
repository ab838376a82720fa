package tracing

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	envSampler    = "OTEL_TRACES_SAMPLER"
	envSamplerArg = "OTEL_TRACES_SAMPLER_ARG"
)

// samplerFromEnv returns the deployment's sampler. The SDK reads the same variables, but samples everything if they are
// wrong.
func samplerFromEnv() (sdktrace.Sampler, error) {
	name := strings.ToLower(strings.TrimSpace(os.Getenv(envSampler)))
	ratio := 1.0
	if arg := strings.TrimSpace(os.Getenv(envSamplerArg)); arg != "" && strings.HasSuffix(name, "traceidratio") {
		var err error
		if ratio, err = strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			return nil, fmt.Errorf("%s: must be a number from 0 to 1, is %q", envSamplerArg, arg)
		}
	}
	var s sdktrace.Sampler
	switch name {
	case "", "parentbased_always_on":
		s = sdktrace.ParentBased(sdktrace.AlwaysSample())
	case "parentbased_always_off":
		s = sdktrace.ParentBased(sdktrace.NeverSample())
	case "parentbased_traceidratio":
		s = sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))
	case "always_on":
		s = sdktrace.AlwaysSample()
	case "always_off":
		s = sdktrace.NeverSample()
	case "traceidratio":
		s = sdktrace.TraceIDRatioBased(ratio)
	default:
		return nil, fmt.Errorf("%s: must be always_on, always_off or traceidratio, with or without parentbased_ before it, is %q", envSampler, name)
	}
	return batchSampler{s}, nil
}

// batchKey marks the context of a batch's root span. Its value is true if any item of the batch is sampled.
type batchKey struct{}

// batchSampler samples the root of a batch if one of its items is sampled. With an independent choice at one percent,
// the batch of a sampled punch would almost never be recorded.
type batchSampler struct{ sdktrace.Sampler }

// ShouldSample decides whether to sample a span.
func (s batchSampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if trace.SpanContextFromContext(p.ParentContext).IsValid() {
		return s.Sampler.ShouldSample(p)
	}
	sampled, isBatch := batchDecision(p.ParentContext)
	switch {
	case !isBatch:
		return s.Sampler.ShouldSample(p)
	case sampled:
		return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
	default:
		return sdktrace.SamplingResult{Decision: sdktrace.Drop}
	}
}

func batchDecision(ctx context.Context) (sampled, isBatch bool) {
	sampled, isBatch = ctx.Value(batchKey{}).(bool)
	return sampled, isBatch
}
