package dns

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// kdig asks as an operator does, with a program that shares no code with this package.
func kdig(t *testing.T, s *Server, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("kdig")
	if err != nil {
		t.Skip("SKIPPED: kdig was not found; `scripts/setup dns` installs it")
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	args = append([]string{"@" + s.Addr().Addr().String(), "-p", fmt.Sprint(s.Addr().Port()), "+timeout=5", "+retry=1"}, args...)
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) { // kdig fails if a transfer is refused
		t.Fatalf("kdig %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestWithKdig(t *testing.T) {
	zone := "example.com"
	s := mustStart(t, newCluster(), func(c *Config, _ *Deps) { c.Networks, c.Zone, c.TTL = mustNetworks(t, offices), zone, 7*time.Second })
	for name, test := range map[string]struct {
		args string
		want []string // regular expressions
		not  string
	}{
		"the general name":   {"clock.example.com A", []string{`status: NOERROR`, `Flags: qr aa rd;`, `ANSWER: 2;`, `clock.example.com.\s+7\s+IN\s+A\s+192.0.1.1`, `192.0.1.2`}, ""},
		"over TCP":           {"+tcp clock.example.com AAAA", []string{`2001:db8:1::1`, `2001:db8:1::2`, `\(TCP\)`}, ""},
		"a region":           {"eu-west.clock.example.com A", []string{`192.0.2.1`, `192.0.2.2`}, ""},
		"no such name":       {"mars.clock.example.com A", []string{`status: NXDOMAIN`, `AUTHORITY: 1;`, `clock.example.com.\s+7\s+IN\s+SOA\s+ns1.example.com. hostmaster.example.com. \d+ 3600 600 86400 7`}, "192.0"},
		"no such type":       {"eu-west.clock.example.com MX", []string{`status: NOERROR`, `ANSWER: 0;`, `SOA`}, ""},
		"outside":            {"www.example.com A", []string{`status: REFUSED`, `ANSWER: 0; AUTHORITY: 0`}, " aa "},
		"the zone's servers": {"clock.example.com NS", []string{`clock.example.com.\s+3600\s+IN\s+NS\s+ns1.example.com.`, `ns2.example.net.`}, ""},
		"any":                {"clock.example.com ANY", []string{`HINFO\s+"RFC8482" ""`, `ANSWER: 1;`}, "192.0"},
		"letters":            {"+noidn ClOcK.eXaMpLe.CoM A", []string{`ClOcK.eXaMpLe.CoM.\s+7\s+IN\s+A`}, ""},
		"EDNS":               {"+bufsize=4096 +dnssec clock.example.com A", []string{`Version: 0; flags: do; UDP size: 1232 B`}, ""},
		"another version":    {"+edns=3 clock.example.com A", []string{`BADVERS`}, "192.0"},
		"an office":          {"+subnet=10.20.128.0/24 clock.example.com A", []string{`192.0.2.1`, `CLIENT-SUBNET: 10.20.128.0/24/17`}, "192.0.1"},
		"a network of IPv6":  {"+subnet=2001:db8:1::/48 clock.example.com A", []string{`192.0.3.1`, `CLIENT-SUBNET: 2001:db8:1::/48/32`}, "192.0.1"},
		"another class":      {"version.bind CH TXT", []string{`REFUSED`}, ""},
		"a transfer":         {"clock.example.com AXFR", []string{`REFUSED`}, "192.0"},
	} {
		t.Run(name, func(t *testing.T) {
			out := kdig(t, s, strings.Fields(test.args)...)
			for _, want := range test.want {
				if !regexp.MustCompile(want).MatchString(out) {
					t.Errorf("kdig %s shows no %q:\n%s", test.args, want, out)
				}
			}
			if test.not != "" && strings.Contains(out, test.not) {
				t.Errorf("kdig %s shows %q:\n%s", test.args, test.not, out)
			}
		})
	}
}

// TestKdigRetriesOverTCP holds that kdig asks again over TCP if an answer does not fit.
func TestKdigRetriesOverTCP(t *testing.T) {
	c, name := crowded()
	s := mustStart(t, c, func(cfg *Config, _ *Deps) { _, cfg.Zone, _ = strings.Cut(name, ".clock.") })
	out := kdig(t, s, "+bufsize=512", "+subnet=2001:db8::1/128", name, "AAAA")
	if strings.Count(out, "\tAAAA\t") != maxAddresses || !strings.Contains(out, "(TCP)") {
		t.Errorf("kdig shows\n%s\nwant %d addresses, over TCP", out, maxAddresses)
	}
	if out := kdig(t, s, "+ignore", "+bufsize=512", "+subnet=2001:db8::1/128", name, "AAAA"); !strings.Contains(out, " tc ") {
		t.Errorf("kdig shows\n%s\nwant a truncated answer", out)
	}
}
