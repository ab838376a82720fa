package dns

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/region"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// cluster is the cluster that a Server under test sees.
type cluster struct {
	cluster   region.Cluster
	evacuated []region.Name
	stuck     []region.Name
	suspects  []string
	members   []region.Member
}

// newCluster returns three regions with two nodes each. Each node has an address of both families.
func newCluster() *cluster {
	c := &cluster{}
	for i, r := range []region.Name{"us-east", "eu-west", "ap-south"} {
		for j := range 2 {
			c.members = append(c.members, region.Member{
				Node: string(r) + "-" + string(rune('a'+j)), Region: r, State: region.Ready,
				PublicAddrs: []netip.Addr{
					netip.AddrFrom4([4]byte{192, 0, byte(i + 1), byte(j + 1)}),
					netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, byte(i + 1), 15: byte(j + 1)}),
				},
			})
		}
	}
	c.show()
	return c
}

func (c *cluster) show() { c.cluster.Set(region.NewView("us-east-a", c.members)) }

// set changes the members of a region. Without a function it removes them.
func (c *cluster) set(r region.Name, change func(*region.Member)) {
	members := slices.Clone(c.members)
	if change == nil {
		members = slices.DeleteFunc(members, func(m region.Member) bool { return m.Region == r })
	}
	for i := range members {
		if members[i].Region == r {
			change(&members[i])
		}
	}
	c.members = members
	c.show()
}

func (c *cluster) deps() Deps {
	return Deps{
		Cluster: &c.cluster, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{},
		Evacuated: func(r region.Name) bool { return slices.Contains(c.evacuated, r) },
		Stuck:     func() []region.Name { return c.stuck },
		Suspects:  func() []string { return c.suspects },
	}
}

func goodConfig() Config {
	return Config{
		Addr: netip.MustParseAddrPort("127.0.0.1:0"), Zone: "example.com", TTL: 10 * time.Second,
		Regions: []region.Name{"us-east", "eu-west"}, NameServers: []string{"ns1.example.com", "ns2.example.net"},
	}
}

func mustNew(t testing.TB, c *cluster, change ...func(*Config, *Deps)) *Server {
	t.Helper()
	cfg, deps := goodConfig(), c.deps()
	for _, f := range change {
		f(&cfg, &deps)
	}
	s, err := New(cfg, deps)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return s
}

// ask passes a query to the server and returns the answer, both in wire format.
func ask(t testing.TB, s *Server, q *miekg.Msg, udp bool) *miekg.Msg {
	t.Helper()
	packed, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var reply miekg.Msg
	b := s.answer(packed, netip.MustParseAddr("198.51.100.1"), udp)
	if err := reply.Unpack(b); err != nil {
		t.Fatalf("the answer %x to %s is not valid: %v", b, q, err)
	}
	if reply.Id != q.Id || !reply.Response || reply.RecursionAvailable {
		t.Errorf("the answer to %d is %s", q.Id, reply.MsgHdr.String())
	}
	return &reply
}

func question(name string, qtype uint16) *miekg.Msg {
	return new(miekg.Msg).SetQuestion(name, qtype)
}

// answered returns the addresses of an answer, sorted.
func answered(reply *miekg.Msg) (list []netip.Addr) {
	for _, rr := range reply.Answer {
		var raw []byte
		switch rr := rr.(type) {
		case *miekg.A:
			raw = rr.A.To4()
		case *miekg.AAAA:
			raw = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(raw); ok {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}
