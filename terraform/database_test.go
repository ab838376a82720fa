package terraform_test

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// places are to the local cluster what the regions' buckets are in AWS.
const places = `'nodelocal://1/clock?COCKROACH_LOCALITY=default', 'nodelocal://2/clock?COCKROACH_LOCALITY=region%3Deu-west-1', 'nodelocal://3/clock?COCKROACH_LOCALITY=region%3Dap-south-1'`

// TestTheDatabaseTakesItsSetup runs what the first server is told on a real
// cluster of three regions, twice, as it will be there. Only the places of the
// backups are other ones.
func TestTheDatabaseTakesItsSetup(t *testing.T) {
	t.Parallel()
	engine, err := cluster.FindEngine(cluster.Cockroach)
	if err != nil {
		t.Skipf("there is no CockroachDB here: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	db, err := cluster.StartDatabase(ctx, cluster.Config{
		Dir: t.TempDir(), Engine: cluster.Cockroach, Regions: []string{"us-east-1", "eu-west-1", "ap-south-1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	admin, err := url.Parse(db.AdminURL())
	if err != nil {
		t.Fatal(err)
	}
	admin.Host, _, _ = strings.Cut(admin.Host, ",") // this client takes one
	sql := func(statements string) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, engine.Path, "sql", "--url="+admin.String(), "--set=errexit=true", "--format=tsv")
		cmd.Stdin = strings.NewReader(statements + ";")
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s\n%s", err, &said, statements)
		}
		return string(out)
	}
	setup := func(label string) {
		for _, file := range []string{"setup.sql", "system-ranges.sql", "backup.sql"} {
			sql(fill(t, "modules/cockroachdb/files/"+file, map[string]string{
				"organisation": "Example", "telemetry": "false", "label": label,
				"spread": `{"+region=ap-south-1":1,"+region=eu-west-1":1,"+region=us-east-1":1}`,
				"places": places,
			}))
		}
	}
	setup("punchclock backup 1")
	setup("punchclock backup 2") // as after a change of the places
	setup("punchclock backup 2")

	for _, ranges := range []string{"RANGE meta", "RANGE liveness", "RANGE system", "DATABASE system", "RANGE timeseries"} {
		if got := sql("SHOW ZONE CONFIGURATION FROM " + ranges); !strings.Contains(got, "+region=ap-south-1: 1") || !strings.Contains(got, "+region=eu-west-1: 1") || !strings.Contains(got, "+region=us-east-1: 1") {
			t.Errorf("%s is not in every region: %s", ranges, got)
		}
	}
	schedules := sql("SELECT label, recurrence, schedule_status FROM [SHOW SCHEDULES FOR BACKUP] ORDER BY label, recurrence")
	if strings.Contains(schedules, "punchclock backup 1") || strings.Count(schedules, "punchclock backup 2") != 2 || !strings.Contains(schedules, "*/10 * * * *") {
		t.Errorf("want one schedule of full and one of incremental backups, the old ones gone:\n%s", schedules)
	}
	// The schedule's own first run comes minutes later: this is the same backup.
	if got := sql("BACKUP DATABASE clock INTO (" + places + ") WITH revision_history"); !strings.Contains(got, "succeeded") {
		t.Errorf("no backup was made: %s", got)
	}
	if got := sql("SHOW BACKUPS IN (" + places + ")"); !strings.Contains(got, "/") {
		t.Errorf("the backup is not found: %s", got)
	}
}

// fill fills a template of plain variables, as templatefile does.
func fill(t *testing.T, path string, values map[string]string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for name, value := range values {
		pairs = append(pairs, "${"+name+"}", value)
	}
	text := strings.NewReplacer(pairs...).Replace(string(content))
	if strings.Contains(text, "${") {
		t.Fatalf("%s has a variable that nobody fills in:\n%s", path, text)
	}
	return text
}
