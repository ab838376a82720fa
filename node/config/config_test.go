package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

type app struct {
	Settings kong.ConfigFlag
	Node     Node `cmd:""`
}

// parse reads settings in the way of `punchclock node`.
func parse(t *testing.T, args []string, env map[string]string) (Node, error) {
	t.Helper()
	var environ []string
	for k, v := range env {
		t.Setenv(k, v)
		environ = append(environ, k+"="+v)
	}
	var a app
	parser, err := kong.New(&a, append(Options(), kong.Exit(func(int) { t.Fatal("kong wants to exit") }))...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"node"}, args...)); err != nil {
		return a.Node, err
	}
	return a.Node, CheckEnvironment(parser.Model, environ)
}

// required are the flags without which a node does not start.
var required = []string{
	"--region=us-east", "--database-url=postgres://x", "--token-jwks=/keys.json", "--gossip-key-file=/gossip.key",
	"--peer-cert-file=/node.crt", "--peer-key-file=/node.key", "--peer-ca-file=/ca.crt",
}

func with(args ...string) []string { return append(args, required...) }

func TestTheDefaultsAreValid(t *testing.T) {
	n, err := parse(t, required, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Validate(); err != nil {
		t.Fatal(err)
	}
	if n.Name == "" || n.Batch.MaxItems != 512 || n.PunchTimeout.Seconds() != 15 {
		t.Errorf("defaults %+v", n)
	}
}

func TestFlagsBeforeEnvironmentBeforeFile(t *testing.T) {
	file := mustFile(t, "weight: 50\nqueue-max-items: 7\npublic-addr: 127.0.0.1:1\ngossip-seeds: [a:1, b:2]\n")
	n, err := parse(t, with("--settings="+file, "--weight=70"), map[string]string{
		"PUNCHCLOCK_WEIGHT": "60", "PUNCHCLOCK_QUEUE_MAX_ITEMS": "8",
	})
	if err != nil {
		t.Fatal(err)
	}
	if n.Weight != 70 || n.Queue.MaxItems != 8 || n.Public.Addr != "127.0.0.1:1" || strings.Join(n.Gossip.Seeds, " ") != "a:1 b:2" {
		t.Errorf("weight %d from the flag, %d items from the environment, %s and %v from the file", n.Weight, n.Queue.MaxItems, n.Public.Addr, n.Gossip.Seeds)
	}
}

func TestUnknownKeysAreFatal(t *testing.T) {
	if _, err := parse(t, with("--queue-max-item=3"), nil); err == nil || !strings.Contains(err.Error(), "queue-max-item") {
		t.Errorf("an unknown flag: %v", err)
	}
	if _, err := parse(t, required, map[string]string{"PUNCHCLOCK_LAB_DRILL_REGION": "eu-west"}); err != nil {
		t.Errorf("a variable of the lab: %v", err)
	}
	if _, err := parse(t, required, map[string]string{"PUNCHCLOCK_WIEGHT": "3"}); err == nil || !strings.Contains(err.Error(), "PUNCHCLOCK_WIEGHT") {
		t.Errorf("an unknown variable: %v", err)
	}
	if _, err := parse(t, with("--settings="+mustFile(t, "wieght: 3\n")), nil); err == nil || !strings.Contains(err.Error(), "wieght") {
		t.Errorf("an unknown key in the file: %v", err)
	}
	if _, err := parse(t, with("--settings="+mustFile(t, "weight: [\n")), nil); err == nil {
		t.Error("a file that is not YAML was accepted")
	}
}

func TestWrongValuesNameTheSetting(t *testing.T) {
	for setting, args := range map[string][]string{
		"name":                          {"--name=a b"},
		"public-addr":                   {"--public-addr=nowhere"},
		"peer-advertise":                {"--peer-advertise=:1"},
		"gossip-seeds":                  {"--gossip-seeds=a"},
		"gossip-advertise":              {"--gossip-addr=0.0.0.0:7946"},
		"public-url":                    {"--public-url=ftp://x"},
		"deployment":                    {"--deployment=Production"},
		"public-key-file":               {"--public-cert-file=/x"},
		"public-cert-file":              {"--public-key-file=/x"},
		"insecure":                      {"--insecure"}, // together with the required files
		"database-url":                  {"--database-url-file=/x"},
		"token-jwks":                    {"--token-jwks=http://x"},
		"queue-max-items":               {"--queue-max-items=0"},
		"queue-max-wait":                {"--queue-max-wait=0s"},
		"database-connections-per-home": {"--database-connections-per-home=-1"},
		"punch-timeout":                 {"--punch-timeout=1ms"},
		"max-future-skew":               {"--max-future-skew=-1s"},
		"employee-burst":                {"--employee-burst=-1"},
		"employee-interval":             {"--employee-interval=0s"},
		"shutdown-timeout":              {"--shutdown-timeout=1s"},
		"public-addresses":              {"--public-addresses=node.example"},
		"dns-addr":                      {"--dns-addr=:53", "--dns-zone=example.com", "--dns-name-servers=ns.example.com"},
		"dns-zone":                      {"--dns-addr=127.0.0.1:53", "--dns-name-servers=ns.example.com"},
		"dns-name-servers":              {"--dns-addr=127.0.0.1:53", "--dns-zone=example.com"},
		"dns-ttl":                       {"--dns-addr=127.0.0.1:53", "--dns-zone=example.com", "--dns-name-servers=ns.example.com", "--dns-ttl=1m"},
	} {
		n, err := parse(t, append(append([]string{}, required...), args...), nil)
		if err == nil {
			err = n.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), "--"+setting) {
			t.Errorf("%v: %v, want an error that names --%s", args, err, setting)
		}
	}
}

func TestCertificatesAndKeysAreRequired(t *testing.T) {
	for i, arg := range required {
		setting, _, _ := strings.Cut(arg, "=")
		if !strings.HasSuffix(setting, "-file") {
			continue
		}
		n, err := parse(t, append(append([]string{}, required[:i]...), required[i+1:]...), nil)
		if err == nil {
			err = n.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), setting+": is required") {
			t.Errorf("without %s: %v", setting, err)
		}
	}
}

// TestInsecureIsForLoopbackOnly gives --insecure together with each address off loopback, and with each file that would
// protect something.
func TestInsecureIsForLoopbackOnly(t *testing.T) {
	plain := []string{"--region=us-east", "--database-url=postgres://x", "--token-jwks=/keys.json", "--insecure"}
	check := func(args ...string) error {
		n, err := parse(t, append(append([]string{}, plain...), args...), nil)
		if err == nil {
			err = n.Validate()
		}
		return err
	}
	for _, args := range [][]string{nil, {"--development"}, {"--gossip-seeds=localhost:1,127.9.9.9:2,[::1]:3", "--peer-addr=localhost:1", "--public-url=http://127.0.0.1:8080", "--public-addresses=127.0.0.1,::1"}} {
		if err := check(args...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	for _, arg := range []string{
		"--public-addr=0.0.0.0:1", "--public-addr=:1", "--peer-addr=10.0.0.1:1", "--ops-addr=192.168.0.1:1", "--gossip-addr=198.18.0.1:1",
		"--peer-advertise=node.example:1", "--gossip-advertise=10.0.0.1:1", "--gossip-seeds=127.0.0.1:1,other.example:1",
		"--peer-cert-file=/x", "--peer-key-file=/x", "--peer-ca-file=/x", "--gossip-key-file=/x",
		"--public-cert-file=/x", "--public-key-file=/x", "--public-url=https://clock.example", "--public-addresses=127.0.0.1,203.0.113.1",
		"--dns-addr=0.0.0.0:53",
	} {
		setting, _, _ := strings.Cut(arg, "=")
		if err := check(arg); err == nil || !strings.Contains(err.Error(), "--insecure: ") || !strings.Contains(err.Error(), setting) {
			t.Errorf("%s: %v, want an error that names both settings", arg, err)
		}
	}
}

func TestAddressesAndNameServersAreLists(t *testing.T) {
	n, err := parse(t, with("--public-addresses=192.0.2.1,2001:db8::1", "--dns-addr=[::]:53", "--dns-zone=example.com",
		"--dns-name-servers=ns1.example.com,ns2.example.com", "--dns-regions=us-east,eu-west", "--dns-networks-file=/x"), nil)
	if err == nil {
		err = n.Validate()
	}
	if err != nil || len(n.Public.Addresses) != 2 || n.Public.Addresses[1].String() != "2001:db8::1" || len(n.DNS.NameServers) != 2 ||
		len(n.DNS.Regions) != 2 || n.DNS.NetworkFile != "/x" || n.DNS.TTL.Seconds() != 10 {
		t.Errorf("%v: %+v, %+v", err, n.Public, n.DNS)
	}
}

func TestTheDatabaseURLComesFromAFile(t *testing.T) {
	db := DB{URLFile: mustFile(t, "postgres://user:password@host/clock\n")}
	if url, err := db.DatabaseURL(); err != nil || url != "postgres://user:password@host/clock" {
		t.Errorf("%q, %v", url, err)
	}
}

func mustFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func FuzzSettingsFile(f *testing.F) {
	f.Add("weight: 3\n")
	f.Add("- a\n")
	f.Fuzz(func(_ *testing.T, content string) {
		_, _ = loadYAML(strings.NewReader(content)) // must not panic
	})
}
