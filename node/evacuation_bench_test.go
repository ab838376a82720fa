package node_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/adminapi"
	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/region"
)

const (
	switchRounds = 20                    // ten evacuations and ten restores
	switchLook   = 10 * time.Millisecond // the error of the figures
)

// BenchmarkEvacuations measures on six nodes how long it takes from the operator's command until the last node acts:
//
//	told    through a node, which writes to the database and gossips
//	polled  written to the database only, as for a node that gossip missed
//
// Two seconds are promised for both.
func BenchmarkEvacuations(b *testing.B) {
	for _, e := range cluster.Engines() {
		b.Run(e.Name, func(b *testing.B) {
			binary, err := cluster.Build(b.Context(), b.TempDir()) // without the race detector
			if err != nil {
				b.Fatal(err)
			}
			c := mustCluster(b, cluster.Config{Binary: binary, Engine: e.Name, Regions: regions, NodesPerRegion: 2, JWKS: shared.jwks})
			db := benchStore(b, c)
			operators := operatorsOf(b, c)
			ways := map[string]func(ctx context.Context, e region.Switch) error{
				"told": func(ctx context.Context, e region.Switch) (err error) {
					if e.Level > 0 {
						_, err = operators[0].Evacuate(ctx, string(e.Region), 0, false)
					} else {
						_, err = operators[0].Restore(ctx, string(e.Region), false)
					}
					return err
				},
				"polled": func(ctx context.Context, e region.Switch) error {
					_, err := db.SetSwitches(ctx, e.Kind, []region.Switch{e})
					return err
				},
			}
			for way, set := range ways {
				var took []float64
				for round := range switchRounds {
					took = append(took, switched(b, operators, round%2 == 0, set))
				}
				b.ReportMetric(median(took), way+"-s")
				b.ReportMetric(slices.Max(took), way+"-max-s")
			}
			b.ReportMetric(0, "ns/op") // a fixed number of rounds
		})
	}
}

// switched sets an evacuation or its end, and returns the seconds until all nodes know it.
func switched(b *testing.B, nodes []adminapi.Client, on bool, set func(context.Context, region.Switch) error) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	e := region.Switch{Region: "ap-south"}
	if on {
		e.Level = 1
	}
	if err := set(ctx, e); err != nil {
		b.Fatal(err)
	}
	for _, n := range nodes {
		for {
			s, err := n.Status(ctx)
			if err != nil {
				b.Fatal(err)
			}
			if slices.ContainsFunc(s.Regions, func(r adminapi.Region) bool { return r.Name == "ap-south" && r.Evacuated == on }) {
				break
			}
			time.Sleep(switchLook) // poll
		}
	}
	return time.Since(began).Seconds()
}

func operatorsOf(b *testing.B, c *cluster.Cluster) (clients []adminapi.Client) {
	b.Helper()
	token, err := shared.key.Sign(auth.Claims{
		Company: "ops", Subject: "ops", Role: auth.Operator,
		Issuer: "punchclock", Audience: "punchclock", TTL: time.Hour,
	}, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range c.Nodes() {
		clients = append(clients, adminapi.Client{URL: n.OpsURL, Token: token})
	}
	return clients
}

func benchStore(b *testing.B, c *cluster.Cluster) *crdb.DB {
	b.Helper()
	db, err := crdb.Open(b.Context(), crdb.Config{
		URL: c.DatabaseURL("us-east"), ConnectionsPerHome: 1, ReadConnections: 1, ConnectTimeout: 2 * time.Second, AttemptTimeout: 10 * time.Second,
	}, crdb.Deps{Log: discard, Meter: noMeter, Tracer: noTracer})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(db.Close)
	return db
}

func mustCluster(b *testing.B, cfg cluster.Config) *cluster.Cluster {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	c, err := cluster.Start(ctx, cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return c
}

func median(v []float64) float64 {
	sorted := slices.Sorted(slices.Values(v))
	return sorted[len(sorted)/2]
}
