package crdb

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// BenchmarkCarry compares transactions of cockroach-go, which have a savepoint, with plain transactions. Both carry the
// same rows to another home, one after the other, so that the load of the machine is the same for both. Run it with
// -benchtime 3x for three pairs.
func BenchmarkCarry(b *testing.B) {
	const rows = 20_000
	for _, server := range databases {
		b.Run(server.Engine, func(b *testing.B) {
			s := mustOpen(b, server, server.URL("us-east"))
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
			defer cancel()
			s.ctx = ctx
			cfg := testConfig(server.URL("us-east"))
			cfg.MoveConnections = 1
			s.DB = s.mustOpenWith(cfg, testDeps())
			company := s.company("us-east")
			for from := 0; from < rows; from += 500 {
				batch := make([]punch.Item, 500)
				for i := range batch {
					batch[i] = s.item(company, "us-east", fmt.Sprintf("e%d", i%50))
				}
				for _, o := range s.Writer("us-east").Write(ctx, batch) {
					wantCode(b, o, "")
				}
			}
			begin := func(ctx context.Context, pool *pgxpool.Pool, do func(pgx.Tx) error) error {
				return pgx.BeginFunc(ctx, pool, do)
			}
			s.carryAll(company, "eu-west", begin) // the first one warms the caches
			var savepoint, plain time.Duration
			b.ResetTimer()
			for range b.N {
				savepoint += s.carryAll(company, "us-east", executeTx)
				plain += s.carryAll(company, "eu-west", begin)
				plain += s.carryAll(company, "us-east", begin)
				savepoint += s.carryAll(company, "eu-west", executeTx)
				b.Logf("so far: cockroach-go %s, plain %s", savepoint, plain)
			}
			b.ReportMetric(float64(2*b.N*rows)/savepoint.Seconds(), "cockroach-go-rows/s")
			b.ReportMetric(float64(2*b.N*rows)/plain.Seconds(), "plain-rows/s")
		})
	}
}

type transactionFunc func(context.Context, *pgxpool.Pool, func(pgx.Tx) error) error

// carryAll moves the company and returns how long its rows took.
func (s *store) carryAll(company string, to region.Name, transaction transactionFunc) time.Duration {
	s.tb.Helper()
	m, err := s.Flip(s.ctx, company, to)
	if err != nil {
		s.tb.Fatal(err)
	}
	pool := s.gateways.pick(0).moves
	began := time.Now()
	for n := 1; n > 0; {
		err := transaction(s.ctx, pool, func(tx pgx.Tx) (err error) {
			n, _, err = carry(s.ctx, tx, m, 500)
			return err
		})
		if err != nil {
			s.tb.Fatal(err)
		}
	}
	took := time.Since(began)
	if done, err := s.Finish(s.ctx, m); err != nil || !done {
		s.tb.Fatal(done, err)
	}
	return took
}
