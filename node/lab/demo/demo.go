// Package demo contains the lab's commands other than drills. The demo runs real nodes and a real database on one machine
// and sends a morning rush through every region. It compares every receipt with the rows, and follows one punch through
// two regions. The work itself is done by node/lab/cluster, node/lab/load and node/lab/drill.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/drill/audit"
	"github.com/punchclock/punchclock/node/lab/load"
	"github.com/punchclock/punchclock/node/lab/traceview"
)

// Demo is `punchclock-lab demo`.
type Demo struct {
	cluster.Setup `embed:""`
	load.Load     `embed:""`
	Ledger        string `help:"Keep the ledger in this new file." type:"path"`
	// Dozens of these punches cross regions, which is enough. More traces would slow the punches down.
	Sampled float64 `help:"Share of the punches that leave a trace." default:"0.02"`
}

// The overhead is the time for start, audit and stop, without the rush. With the default rush a demo ends within two
// minutes, or within four on CockroachDB, whose processes may share two cores.
const (
	overheadPostgres  = 85 * time.Second
	overheadCockroach = 200 * time.Second
)

var errTooLong = errors.New("the demo takes too long on this machine; try a lower --rate")

// traceTo lets the nodes send spans to a sink, for a share of their requests.
func traceTo(sinkURL string, share float64) func(*cluster.Config) {
	env := []string{
		"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_ENDPOINT=" + sinkURL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=" + strconv.FormatFloat(share, 'f', -1, 64),
		"OTEL_BSP_SCHEDULE_DELAY=500", // ms: the demo waits for the last spans
	}
	return func(cfg *cluster.Config) { cfg.ExtraEnv = func(*cluster.Node) []string { return env } }
}

// Run writes the outcome to out and the progress to standard error. Its error is nil only if every punch is accounted
// for.
func (c *Demo) Run(ctx context.Context, out io.Writer) (err error) {
	began := time.Now()
	ctx, cancel := context.WithDeadlineCause(ctx, began.Add(overheadCockroach+c.Duration), errTooLong)
	defer cancel()
	sink, err := traceview.Start("127.0.0.1:0", traceview.DefaultConfig())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSink(ctx, sink)) }()
	st, err := c.Start(ctx, os.Stderr, traceTo(sink.URL, c.Sampled))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close(ctx)) }()
	if st.State().Database.Engine == cluster.Postgres {
		ctx, cancel = context.WithDeadlineCause(ctx, began.Add(overheadPostgres+c.Duration), errTooLong)
		defer cancel()
	}
	result, report, err := c.show(ctx, st)
	if err != nil {
		return err
	}
	trace, err := crossingTrace(ctx, sink)
	if err != nil {
		return err
	}
	if err := summary(out, st, &result, &report, trace); err != nil {
		return err
	}
	return verdict(&result, &report)
}

// closeSink must run after the nodes are gone, which would otherwise still send spans.
func closeSink(ctx context.Context, sink *traceview.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return sink.Close(ctx)
}

// show sends the rush and audits it.
func (c *Demo) show(ctx context.Context, st *cluster.Environment) (load.Result, audit.Report, error) {
	path := c.Ledger
	if path == "" {
		path = st.Path("ledger.jsonl")
	}
	// A new CockroachDB moves replicas and leases, which would slow the rush down.
	if st.Database.Engine == cluster.Cockroach {
		st.Say("waiting until every range has its replicas in all regions")
		if err := st.Database.WaitReplicated(ctx); err != nil {
			return load.Result{}, audit.Report{}, err
		}
	}
	state := st.State()
	st.Say("morning rush")
	result, err := rushWithLedger(ctx, load.Config{
		Load: c.Load, Entries: state.Entries(), Companies: state.Companies, Progress: load.ShowProgress(os.Stderr),
	}, path)
	if err != nil {
		return result, audit.Report{}, err
	}
	st.Say("auditing")
	report, err := auditLedger(ctx, path, st.OperatorURL(st.Regions()[0]))
	if err == nil && report.Verdict() != nil {
		st.Keep() // the evidence
	}
	return result, report, err
}

func auditLedger(ctx context.Context, path, databaseURL string) (audit.Report, error) {
	file, err := os.Open(path)
	if err != nil {
		return audit.Report{}, err
	}
	defer file.Close() //nolint:errcheck // only read
	return audit.Run(ctx, file, databaseURL)
}

// verdict is nil when the rush was sent as planned and every punch is accounted for.
func verdict(result *load.Result, report *audit.Report) error {
	errs := []error{report.Verdict(), result.Void()}
	if report.Acknowledged != result.Acknowledged {
		errs = append(errs, fmt.Errorf("the ledger has %d receipts, the generator saw %d", report.Acknowledged, result.Acknowledged))
	}
	if result.Refused > 0 {
		errs = append(errs, fmt.Errorf("%d good punches were refused", result.Refused))
	}
	if result.RepeatsWrong > 0 {
		errs = append(errs, fmt.Errorf("%d punches that were sent again did not get their receipt again", result.RepeatsWrong))
	}
	return errors.Join(errs...)
}
