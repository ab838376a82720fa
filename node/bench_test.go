package node_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// The benchmark compares three servers, which take turns in the rounds of one run:
//
//	grouped  a node as it is
//	single   the same node with one INSERT per request, on the same database
//	bare     an HTTP handler that decodes the same JSON and answers the same bytes
//
// All three speak plain HTTP, like nodes behind a balancer that ends TLS. Both nodes reach the database by verified TLS,
// like nodes in production.
//
// Test machines are noisy, so only the ratios within a round count.
const (
	benchRounds      = 5
	benchRound       = 3 * time.Second
	benchConnections = 256 // closed loop; more than the writers of a small node
	bareVariable     = "PUNCHCLOCK_TEST_BARE_HANDLER"
)

// BenchmarkPunches reports the medians of the rounds for each engine.
func BenchmarkPunches(b *testing.B) {
	for _, e := range cluster.Engines() {
		b.Run(e.Name, func(b *testing.B) { benchEngine(b, e.Name) })
	}
}

func benchEngine(b *testing.B, engine string) {
	binary, err := cluster.Build(b.Context(), b.TempDir()) // without the race detector
	if err != nil {
		b.Fatal(err)
	}
	cfg := cluster.Config{Binary: binary, Engine: engine, Regions: regions, NodesPerRegion: 1, JWKS: shared.jwks}
	grouped := mustCluster(b, cfg)
	cfg.DatabaseURL = grouped.DatabaseURL("us-east")
	// Many connections, within the limit of the database: this is the best case of one INSERT per request.
	cfg.ExtraFlags = []string{
		"--batch-max-items=1", "--database-connections-per-home=64",
		"--database-url=" + grouped.Database.URLAs(crdb.NodeRole, cluster.DatabaseName, "us-east"), // the role of a node, as the other has
	}
	single := mustCluster(b, cfg)
	company := benchCompany(b, grouped)
	bare, pid := mustBare(b)
	subjects := []*subject{
		{name: "grouped", url: grouped.Region("us-east")[0].PublicURL, pid: grouped.Region("us-east")[0].PID()},
		{name: "single", url: single.Region("us-east")[0].PublicURL, pid: single.Region("us-east")[0].PID()},
		{name: "bare", url: bare, pid: pid},
	}
	tok := benchToken(b, company)
	for _, s := range subjects { // warm up: pools, plans, caches
		s.run(b, tok, time.Second)
		s.rates, s.cpu = nil, nil
	}
	b.ResetTimer()
	for range benchRounds {
		for _, s := range subjects {
			s.run(b, tok, benchRound)
		}
	}
	report(b, subjects[0], subjects[1], subjects[2])
}

func report(b *testing.B, grouped, single, bare *subject) {
	b.ReportMetric(0, "ns/op") // the rounds have a fixed length: time per iteration says nothing
	b.ReportMetric(median(grouped.rates), "grouped-punches/s")
	b.ReportMetric(median(single.rates), "single-punches/s")
	b.ReportMetric(median(ratios(grouped.rates, single.rates)), "grouped/single")
	b.ReportMetric(median(grouped.cpu)*1e6, "node-cpu-µs/punch")
	b.ReportMetric(median(bare.cpu)*1e6, "bare-cpu-µs/punch")
	b.ReportMetric(median(ratios(grouped.cpu, bare.cpu)), "node/bare-cpu")
}

// subject is one of the compared servers.
type subject struct {
	name  string
	url   string
	pid   int
	rates []float64 // punches per second, by round
	cpu   []float64 // seconds of the server process per punch, by round
}

func (s *subject) run(b *testing.B, token string, d time.Duration) {
	b.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: benchConnections}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	var done atomic.Int64
	var wg sync.WaitGroup
	before, start := cpuOf(b, s.pid), time.Now()
	for worker := range benchConnections {
		wg.Go(func() {
			for i := 0; time.Since(start) < d; i++ {
				if err := s.punch(client, token, fmt.Sprintf("e%d-%d", worker, i)); err != nil {
					b.Errorf("%s: %v", s.name, err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	took, n := time.Since(start).Seconds(), float64(done.Load())
	s.rates = append(s.rates, n/took)
	s.cpu = append(s.cpu, (cpuOf(b, s.pid)-before)/n)
}

func (s *subject) punch(client *http.Client, token, employee string) error {
	in := fmt.Sprintf(`{"id":%q,"employee":%q,"kind":"in"}`, punch.NewID(), employee)
	req, err := http.NewRequest(http.MethodPost, s.url+"/v1/punches", strings.NewReader(in))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusCreated {
		err = fmt.Errorf("status %d: %s", res.StatusCode, answer)
	}
	return err
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

func benchCompany(b *testing.B, c *cluster.Cluster) string {
	b.Helper()
	db := benchStore(b, c)
	company := crdb.Company{ID: "bench", Name: "Bench", HomeRegion: "us-east", TimeZone: "America/New_York"}
	if out, err := db.CreateCompanies(b.Context(), []crdb.Company{company}); err != nil || out[0] != nil {
		b.Fatal(out, err)
	}
	return company.ID
}

func benchToken(b *testing.B, company string) string {
	b.Helper()
	token, err := shared.key.Sign(auth.Claims{
		Company: company, Subject: "kiosk-1", Role: auth.Kiosk,
		Issuer: "punchclock", Audience: "punchclock", TTL: time.Hour,
	}, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	return token
}

// mustBare starts this test binary as the bare handler. It is a process of its own, so that its CPU time does not include
// the load generator's.
func mustBare(b *testing.B) (url string, pid int) {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), bareVariable+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdin, err := cmd.StdinPipe() // held open: the handler ends when we do
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // it ends because its standard input did
	})
	url, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(url), cmd.Process.Pid
}

// serveBare answers each punch with the bytes of a receipt.
func serveBare() int {
	receipt := punch.Stamped(punch.Request{Company: "bench", Employee: "e255-1000", ID: punch.NewID(), Kind: punch.In}, time.Now(), "us-east", strings.Repeat("0", 32))
	answer := fmt.Appendf(nil, `{"id":%q,"company":"bench","employee":"e255-1000","kind":"in","punched_at":"2026-11-21T08:30:00.000000Z",`+
		`"received_at":"2026-11-21T08:30:00.000000Z","recorded_at":"2026-11-21T08:30:00.000000Z","zone":"America/New_York","utc_offset":"-05:00",`+
		`"home_region":"us-east","entry_region":"us-east","marks":[],"trace_id":%q,"replayed":false}`, receipt.ID, receipt.TraceID)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("http://" + listener.Addr().String())
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ ID, Employee, Kind, At, Source, Note string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(answer) // the client may be gone
	})}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	_ = server.Serve(listener) // it ends when standard input does
	return 0
}

// cpuOf returns the seconds of CPU that a process has used, user and system.
func cpuOf(b *testing.B, pid int) float64 {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// proc(5): utime and stime are fields 14 and 15, in ticks of 10 ms. The name in parentheses may contain spaces.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var ticks float64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseFloat(string(f), 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100
}

func ratios(a, b []float64) []float64 {
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	return r
}

func median(v []float64) float64 {
	sorted := slices.Sorted(slices.Values(v))
	return sorted[len(sorted)/2]
}
