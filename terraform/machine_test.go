package terraform_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/punchclock/punchclock/node/config"
)

// machines checks, for each module that starts machines, what they are started
// with.
var machines = map[string]func(*testing.T, map[string]made){
	"cockroachdb": func(t *testing.T, outputs map[string]made) {
		for _, run := range []string{"with_a_licence", "another_region_joins_and_never_initialises"} {
			var data map[string]string
			outputs[run].mustDecode(t, "user_data", &data)
			checkMachine(t, data["db1"])
			var setup string
			outputs[run].mustDecode(t, "setup", &setup)
			checkFile(t, "/setup", setup)
		}
	},
	"nodes": func(t *testing.T, outputs map[string]made) {
		var data, settings string
		outputs["what_a_node_is_started_with"].mustDecode(t, "user_data", &data)
		files := checkMachine(t, data)
		checkSandbox(t, files["/etc/systemd/system/punchclock.service"])
		outputs["what_a_node_is_started_with"].mustDecode(t, "settings", &settings)
		checkSettings(t, settings)
	},
	"observability": func(t *testing.T, outputs map[string]made) {
		var data string
		outputs["one_collector"].mustDecode(t, "user_data", &data)
		checkCollector(t, checkMachine(t, data))
	},
}

// checkMachine returns the files that a machine writes when it starts.
func checkMachine(t *testing.T, data string) map[string]string {
	t.Helper()
	header, body, _ := strings.Cut(data, "\n")
	var cloud struct {
		Files []struct{ Path, Content, Permissions string } `json:"write_files"`
		Run   []string                                      `json:"runcmd"`
	}
	if err := json.Unmarshal([]byte(body), &cloud); err != nil || header != "#cloud-config" || len(cloud.Files) == 0 || len(cloud.Run) == 0 {
		t.Fatalf("no cloud-config: %v: %.200s", err, data)
	}
	files := make(map[string]string)
	for _, f := range cloud.Files {
		files[f.Path] = f.Content
		checkFile(t, f.Path, f.Content)
		if strings.HasPrefix(f.Path, "/usr/local/bin/") && f.Permissions != "0755" {
			t.Errorf("%s cannot be run: its mode is %q", f.Path, f.Permissions)
		}
	}
	checkFile(t, "/runcmd", "#!/bin/sh\n"+strings.Join(cloud.Run, "\n"))
	// What is run must be there: written, or installed by a line before.
	all := strings.Join(cloud.Run, "\n")
	for _, content := range append(slices.Collect(mapsValues(files)), all) {
		for _, program := range regexp.MustCompile(`/usr/local/bin/[a-z-]+|/opt/[a-z]+/[a-z-]+`).FindAllString(content, -1) {
			if files[program] == "" && !strings.Contains(all, program) {
				t.Errorf("%s is run, and nothing installs it", program)
			}
		}
	}
	return files
}

func mapsValues(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// checkFile has a file read by what would read it on the machine, as far as that
// is here.
func checkFile(t *testing.T, path, content string) {
	t.Helper()
	if strings.Contains(content, "${") && strings.Contains(path, "/etc/systemd/") {
		t.Errorf("%s: a variable was not filled in:\n%s", path, content)
	}
	file := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	switch {
	case strings.HasPrefix(content, "#!/usr/bin/env bash"), strings.HasPrefix(content, "#!/bin/sh"):
		check(t, path, "bash", "-n", file)
		check(t, path, "shellcheck", "--severity=warning", file)
	case strings.HasPrefix(path, "/etc/profile.d/"): // read by whatever shell logs in
		check(t, path, "bash", "-n", file)
		check(t, path, "shellcheck", "--shell=sh", "--severity=warning", file)
	case strings.HasPrefix(content, "#!/usr/bin/env python3"):
		check(t, path, "python3", "-c", "import ast,sys; ast.parse(open(sys.argv[1]).read())", file)
	case strings.HasSuffix(path, ".service"), strings.HasSuffix(path, ".timer"):
		if out := analyse(t, "verify", "--man=no", "--recursive-errors=no", file); out != "" {
			t.Errorf("%s: %s\n%s", path, out, content)
		}
	case strings.HasSuffix(path, ".json") && !json.Valid([]byte(content)):
		t.Errorf("%s is no JSON: %s", path, content)
	}
}

// check runs a checker if it is installed.
func check(t *testing.T, path, tool string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Logf("%s is not installed: %s is not checked by it", tool, path)
		return
	}
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
		t.Errorf("%s: %s: %v\n%s", path, tool, err, out)
	}
}

// analyse returns what systemd says of a unit, without what is only so because
// this is not the machine.
func analyse(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Log("systemd-analyze is not installed: units are not checked by it")
		return ""
	}
	out, _ := exec.Command("systemd-analyze", args...).CombinedOutput() // its status also counts the lines that are dropped below
	var rest []string
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "is not executable") && !strings.Contains(line, "Failed to prepare filename") && strings.Contains(line, filepath.Base(args[len(args)-1])) {
			rest = append(rest, line)
		}
	}
	return strings.Join(rest, "")
}

// checkSandbox holds the node's unit to what systemd calls OK: 0 is shut off
// from everything, 10 is not shut off at all.
func checkSandbox(t *testing.T, unit string) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed: the sandbox is not checked")
	}
	file := filepath.Join(t.TempDir(), "punchclock.service")
	if err := os.WriteFile(file, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", file).CombinedOutput()
	exposure := regexp.MustCompile(`exposure level for punchclock.service: ([0-9.]+)`).FindStringSubmatch(string(out))
	if exposure == nil {
		t.Fatalf("systemd-analyze security: %v\n%s", err, out)
	}
	if level, _ := strconv.ParseFloat(exposure[1], 64); level > 2 {
		t.Errorf("the node's exposure is %s, want at most 2\n%s", exposure[1], out)
	}
}

// checkCollector has the collector that `make collector` builds read what its
// machine gives it: three files, of which the last stands in no other test.
func checkCollector(t *testing.T, files map[string]string) {
	t.Helper()
	found, err := filepath.Glob("../.cache/bin/otelcol-*")
	if err != nil || len(found) == 0 {
		t.Log("otelcol is not built here (make collector): its configuration is not read by it")
		return
	}
	dir, args := t.TempDir(), []string{"validate"}
	for _, m := range regexp.MustCompile(`--config=(\S+)`).FindAllStringSubmatch(files["/etc/systemd/system/collector.service"], -1) {
		mustWrite(t, dir, filepath.Base(m[1]), files[m[1]])
		args = append(args, "--config="+filepath.Join(dir, filepath.Base(m[1])))
	}
	cmd := exec.Command(found[0], args...)
	// On the machine its role has the credentials; here nothing is signed.
	cmd.Env = append(strings.Split(files["/etc/otelcol/environment"], "\n"), "AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none")
	if out, err := cmd.CombinedOutput(); err != nil || len(args) != 4 {
		t.Errorf("otelcol %v: %v\n%s", args, err, out)
	}
}

// checkSettings has a node read its settings file, as `punchclock node` does.
func checkSettings(t *testing.T, settings string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(file, []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	var app struct {
		Settings kong.ConfigFlag
		Node     config.Node `cmd:""`
	}
	parser, err := kong.New(&app, config.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	// What node-prepare adds on the machine.
	if _, err := parser.Parse([]string{"node", "--settings=" + file, "--peer-advertise=10.65.16.7:7400", "--gossip-advertise=10.65.16.7:7946"}); err != nil {
		t.Fatalf("a node does not take its settings: %v\n%s", err, settings)
	}
	if err := app.Node.Validate(); err != nil {
		t.Errorf("a node does not take its settings: %v\n%s", err, settings)
	}
}

// store stands in for AWS's command line: a secret is a file of its name, an
// object too.
func store(t *testing.T) (dir string, env []string) {
	t.Helper()
	dir, bin := t.TempDir(), t.TempDir()
	script := `#!/bin/sh
case "$1 $2" in
"secretsmanager get-secret-value") exec cat "` + dir + `/$(echo "$4" | tr / _)" ;;
"secretsmanager put-secret-value") exec cp "${8#file://}" "` + dir + `/$(echo "$6" | tr / _)" ;;
"s3 cp") exec cp "` + dir + `/$(basename "$4")" "$5" ;;
esac
exit 2
`
	if err := os.WriteFile(filepath.Join(bin, "aws"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "ARTIFACTS=bucket")
}

func mustWrite(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestSecretsAreWrittenWholeOrKept(t *testing.T) {
	t.Parallel()
	// By its own path: what starts a python3 on the PATH may change the PATH.
	python, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Skipf("python3 does not run: %v", err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	secrets, env := store(t)
	to := filepath.Join(t.TempDir(), "secrets")
	fetch := func() (string, error) {
		cmd := exec.Command(strings.TrimSpace(string(python)), "machine/fetch-secrets", to, me.Username, "punchclock/eu-west-1/node", "punchclock/gossip")
		cmd.Env = env
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		t.Logf("fetch-secrets: %v %s", err, &said)
		return strings.TrimSpace(string(out)), err
	}
	content := func(name string) string {
		b, err := os.ReadFile(filepath.Join(to, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return string(b)
	}
	if out, err := fetch(); err == nil {
		t.Errorf("without a secret it succeeded: %s", out)
	}
	mustWrite(t, secrets, "punchclock_eu-west-1_node", `{"node.crt": "certificate\n", "node.key": "key\n"}`)
	mustWrite(t, secrets, "punchclock_gossip", `{"gossip.keys": "first\n"}`)
	if out, err := fetch(); err != nil || out != "changed" || content("node.key") != "key\n" || content("gossip.keys") != "first\n" {
		t.Errorf("first: %q, %v", out, err)
	}
	info, err := os.Stat(filepath.Join(to, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o400 {
		t.Errorf("the key's mode is %v, want 0400", info.Mode())
	}
	if out, err := fetch(); err != nil || out != "" {
		t.Errorf("nothing had changed: %q, %v", out, err)
	}
	mustWrite(t, secrets, "punchclock_gossip", `{"gossip.keys": "first\nsecond\n"}`)
	if out, err := fetch(); err != nil || out != "changed" || content("gossip.keys") != "first\nsecond\n" {
		t.Errorf("rotated: %q, %v", out, err)
	}
	// A store that is away, or a broken secret, stops no machine that has the
	// files of before.
	for _, broken := range []string{`{"../../etc/passwd": "x"}`, `["node.key"]`, `{"node.key": 1}`, `{`} {
		mustWrite(t, secrets, "punchclock_eu-west-1_node", broken)
		if out, err := fetch(); err != nil || out != "" || content("node.key") != "key\n" {
			t.Errorf("%s: %q, %v", broken, out, err)
		}
	}
	whole := env
	env = append(slices.Clone(whole), "PATH="+t.TempDir())
	if out, err := fetch(); err != nil || out != "" || content("node.key") != "key\n" {
		t.Errorf("without the command aws: %q, %v", out, err)
	}
	env = whole
	if err := os.Remove(filepath.Join(to, "node.crt")); err != nil {
		t.Fatal(err)
	}
	if out, err := fetch(); err == nil {
		t.Errorf("a file was missing, and it succeeded: %s", out)
	}
}

// TestSecretsHoldWhatMachinesRead fills the secrets as an operator does, and
// looks whether each machine finds in its secrets every file that it reads.
func TestSecretsHoldWhatMachinesRead(t *testing.T) {
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip("jq is not installed")
	}
	secrets, env := store(t)
	authority := t.TempDir()
	for _, name := range []string{
		"ca.crt", "gossip.keys", "licence", "nodes/eu-west-1.crt", "nodes/eu-west-1.key", "database/ca.crt", "database/node.crt", "database/node.key",
		"database/client.root.crt", "database/client.root.key", "database/client.punchclock_node.crt", "database/client.punchclock_node.key",
		"database/client.punchclock_migrator.crt", "database/client.punchclock_migrator.key", "database/client.punchclock_operator.crt", "database/client.punchclock_operator.key",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(authority, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, authority, name, "content of "+name+"\n")
	}
	cmd := exec.Command("../scripts/aws-secrets", authority, "punchclock", "eu-west-1")
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("aws-secrets: %v\n%s", err, out)
	}
	for _, machine := range []struct {
		secrets, reads []string
		from           string // where the paths stand
	}{
		{[]string{"eu-west-1_node", "gossip", "database_node"}, []string{"modules/nodes/files/node.yaml.tftpl", "modules/nodes/main.tf"}, "/run/punchclock/secrets/"},
		{[]string{"authorities"}, []string{"modules/observability/files/aws.yaml.tftpl", "modules/observability/collector.tf"}, "/run/otelcol/"},
		{[]string{"eu-west-1_database", "database_operator"}, []string{"modules/cockroachdb/files/setup", "modules/cockroachdb/files/console.sh"}, "$certs/"},
		{[]string{"authorities"}, []string{"modules/cockroachdb/files/console.sh"}, "/run/punchclock/"},
	} {
		files := make(map[string]string)
		for _, secret := range machine.secrets {
			content, err := os.ReadFile(filepath.Join(secrets, "punchclock_"+secret))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(content, &files); err != nil {
				t.Errorf("%s: %v", secret, err)
			}
		}
		var found int
		for _, path := range machine.reads {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(regexp.QuoteMeta(machine.from)+`([a-z][a-z_.-]+[a-z])`).FindAllStringSubmatch(string(content), -1) {
				if found++; files[m[1]] == "" {
					t.Errorf("%s reads %s, which is in none of the secrets %v", path, m[1], machine.secrets)
				}
			}
		}
		if found == 0 {
			t.Errorf("nothing in %v reads from %s", machine.reads, machine.from)
		}
	}
	if content, err := os.ReadFile(filepath.Join(secrets, "punchclock_database_licence")); err != nil || string(content) != "contentoflicence" {
		t.Errorf("the licence is %q, without the blanks around a key, %v", content, err)
	}
	var node map[string]string
	if content, err := os.ReadFile(filepath.Join(secrets, "punchclock_eu-west-1_node")); err != nil || json.Unmarshal(content, &node) != nil || node["node.key"] != "content of nodes/eu-west-1.key\n" || len(node) != 3 {
		t.Errorf("the region's identity is %v, %v", node, err)
	}
}

func TestArtifactsComeByTheirChecksum(t *testing.T) {
	objects, env := store(t)
	mustWrite(t, objects, "punchclock-linux-arm64", "program")
	to := filepath.Join(t.TempDir(), "opt", "punchclock")
	fetch := func(sum string) error {
		cmd := exec.Command("machine/fetch-artifact", "punchclock/v1/punchclock-linux-arm64", sum, to)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		return err
	}
	if err := fetch(strings.Repeat("0", 64)); err == nil {
		t.Error("another checksum was taken")
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("what was refused was installed")
	}
	sum, err := exec.Command("sha256sum", filepath.Join(objects, "punchclock-linux-arm64")).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := fetch(strings.Fields(string(sum))[0]); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != "program" {
		t.Errorf("installed %q, %v", got, err)
	}
}
