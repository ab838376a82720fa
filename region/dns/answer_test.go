package dns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/punchclock/punchclock/region"
)

func TestAnswers(t *testing.T) {
	s := mustNew(t, newCluster())
	v4, v6 := addrs("192.0.1.1", "192.0.1.2"), addrs("2001:db8:1::1", "2001:db8:1::2")
	for _, test := range []struct {
		name  string
		qtype uint16
		rcode int
		addrs []netip.Addr
		soa   bool // the authority section has a SOA, because the answer is negative
	}{
		{"clock.example.com.", miekg.TypeA, miekg.RcodeSuccess, v4, false},
		{"clock.example.com.", miekg.TypeAAAA, miekg.RcodeSuccess, v6, false},
		{"eu-west.clock.example.com.", miekg.TypeA, miekg.RcodeSuccess, addrs("192.0.2.1", "192.0.2.2"), false},
		{"clock.example.com.", miekg.TypeMX, miekg.RcodeSuccess, nil, true},
		{"clock.example.com.", miekg.TypeCNAME, miekg.RcodeSuccess, nil, true},
		{"eu-west.clock.example.com.", miekg.TypeNS, miekg.RcodeSuccess, nil, true},
		{"eu-west.clock.example.com.", miekg.TypeSOA, miekg.RcodeSuccess, nil, true},
		{"mars.clock.example.com.", miekg.TypeA, miekg.RcodeNameError, nil, true},
		{"a.eu-west.clock.example.com.", miekg.TypeA, miekg.RcodeNameError, nil, true},
		{`eu\.west.clock.example.com.`, miekg.TypeA, miekg.RcodeNameError, nil, true},
		{"mars.clock.example.com.", miekg.TypeANY, miekg.RcodeNameError, nil, true},
		{"example.com.", miekg.TypeA, miekg.RcodeRefused, nil, false},
		{"xclock.example.com.", miekg.TypeA, miekg.RcodeRefused, nil, false},
		{`x\.clock.example.com.`, miekg.TypeA, miekg.RcodeRefused, nil, false},
		{"clock.example.com.net.", miekg.TypeA, miekg.RcodeRefused, nil, false},
		{".", miekg.TypeNS, miekg.RcodeRefused, nil, false},
		{"clock.example.com.", miekg.TypeAXFR, miekg.RcodeRefused, nil, false},
		{"clock.example.com.", miekg.TypeIXFR, miekg.RcodeRefused, nil, false},
	} {
		reply := ask(t, s, question(test.name, test.qtype), true)
		got := answered(reply)
		soa := len(reply.Ns) == 1 && reply.Ns[0].Header().Rrtype == miekg.TypeSOA
		if reply.Rcode != test.rcode || !slices.Equal(got, test.addrs) || soa != test.soa || len(reply.Answer) != len(test.addrs) ||
			reply.Authoritative != (test.rcode != miekg.RcodeRefused) {
			t.Errorf("%s %s is answered\n%s\nwant %s with %v, and the SOA: %v", test.name, miekg.TypeToString[test.qtype], reply,
				miekg.RcodeToString[test.rcode], test.addrs, test.soa)
		}
		for _, rr := range reply.Answer {
			if rr.Header().Ttl != 10 || rr.Header().Name != test.name {
				t.Errorf("%s is answered with %s, want 10 s and the name in the letters of the query", test.name, rr)
			}
		}
		if test.soa {
			if soa := reply.Ns[0].(*miekg.SOA); soa.Hdr.Name != "clock.example.com." || soa.Hdr.Ttl != 10 || soa.Minttl != 10 {
				t.Errorf("%s: the SOA is %s, want the SOA of the zone, kept for 10 s", test.name, soa)
			}
		}
	}
}

func TestRecordsOfTheZone(t *testing.T) {
	s := mustNew(t, newCluster())
	reply := ask(t, s, question("clock.example.com.", miekg.TypeNS), true)
	if got := fmt.Sprint(reply.Answer); strings.Count(got, "NS\tns") != 2 || !strings.Contains(got, "ns1.example.com.") || !strings.Contains(got, "ns2.example.net.") {
		t.Errorf("NS is answered %s", got)
	}
	reply = ask(t, s, question("clock.example.com.", miekg.TypeSOA), true)
	if got := fmt.Sprint(reply.Answer); !strings.Contains(got, "ns1.example.com. hostmaster.example.com. ") || len(reply.Ns) != 0 {
		t.Errorf("SOA is answered %s", got)
	}
	reply = ask(t, s, question("clock.example.com.", miekg.TypeANY), true)
	if hinfo, ok := reply.Answer[0].(*miekg.HINFO); len(reply.Answer) != 1 || !ok || hinfo.Cpu != "RFC8482" {
		t.Errorf("ANY is answered %v", reply.Answer)
	}
}

func TestAnswerKeepsTheLettersOfTheName(t *testing.T) {
	s := mustNew(t, newCluster())
	const name = "eU-wEst.ClOcK.eXamPle.COM."
	reply := ask(t, s, question(name, miekg.TypeA), true)
	if reply.Question[0].Name != name || len(reply.Answer) != 2 || reply.Answer[0].Header().Name != name {
		t.Errorf("answered\n%s", reply)
	}
	reply = ask(t, s, question("nO.ClOcK.eXamPle.COM.", miekg.TypeA), true)
	if reply.Rcode != miekg.RcodeNameError || reply.Ns[0].Header().Name != "ClOcK.eXamPle.COM." {
		t.Errorf("answered\n%s", reply)
	}
}

// TestMissingFamily holds that no other region answers for a family that no node of the region has.
func TestMissingFamily(t *testing.T) {
	c := newCluster()
	c.set("us-east", func(m *region.Member) { m.PublicAddrs = m.PublicAddrs[:1] })
	reply := ask(t, mustNew(t, c), question("clock.example.com.", miekg.TypeAAAA), true)
	if reply.Rcode != miekg.RcodeSuccess || len(reply.Answer) != 0 || len(reply.Ns) != 1 {
		t.Errorf("answered\n%s\nwant no data", reply)
	}
}

// TestFamilyOutlastsItsRegion removes a region with both families. Its names must keep both, also if the next region
// has one.
func TestFamilyOutlastsItsRegion(t *testing.T) {
	c := newCluster()
	c.set("eu-west", func(m *region.Member) { m.PublicAddrs = m.PublicAddrs[:1] }) // the next region has only IPv4
	s := mustNew(t, c)
	c.set("us-east", nil)
	s.refresh()
	for _, name := range []string{"clock.example.com.", "us-east.clock.example.com."} {
		if got := answered(ask(t, s, question(name, miekg.TypeA), true)); !slices.Equal(got, addrs("192.0.2.1", "192.0.2.2")) {
			t.Errorf("%s A is answered %v", name, got)
		}
		if got := answered(ask(t, s, question(name, miekg.TypeAAAA), true)); !slices.Equal(got, addrs("2001:db8:3::1", "2001:db8:3::2")) {
			t.Errorf("%s AAAA is answered %v, want the addresses of the region after the next", name, got)
		}
	}
	// While the other family reaches a node, the last known addresses would only cost time. After that no others are
	// left.
	c.set("ap-south", nil)
	s.refresh()
	if reply := ask(t, s, question("clock.example.com.", miekg.TypeAAAA), true); reply.Rcode != miekg.RcodeSuccess || len(reply.Answer) != 0 {
		t.Errorf("with IPv6 nowhere AAAA is answered\n%s\nwant no data", reply)
	}
	c.set("eu-west", nil)
	s.refresh()
	for qtype, want := range map[uint16][]netip.Addr{miekg.TypeA: addrs("192.0.1.1", "192.0.1.2"), miekg.TypeAAAA: addrs("2001:db8:1::1", "2001:db8:1::2")} {
		if got := answered(ask(t, s, question("clock.example.com.", qtype), true)); !slices.Equal(got, want) {
			t.Errorf("without any node %s is answered %v, want the last known addresses", miekg.TypeToString[qtype], got)
		}
	}
}

func TestServFailWithoutNodes(t *testing.T) {
	reply := ask(t, mustNew(t, &cluster{}), question("clock.example.com.", miekg.TypeA), true)
	if reply.Rcode != miekg.RcodeServerFailure || reply.Authoritative || len(reply.Ns) != 0 {
		t.Errorf("answered\n%s\nwant SERVFAIL", reply)
	}
}

func TestAnswersAreLimitedAndRotate(t *testing.T) {
	c := newCluster()
	c.members = nil
	for i := range 20 {
		c.members = append(c.members, region.Member{
			Node: fmt.Sprint("n", i), Region: "us-east", State: region.Ready, PublicAddrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})},
		})
	}
	c.show()
	s := mustNew(t, c)
	first := make(map[string]int)
	const times = 2000
	for range times {
		reply := ask(t, s, question("clock.example.com.", miekg.TypeA), true)
		if len(reply.Answer) != maxAddresses {
			t.Fatalf("%d addresses, want %d", len(reply.Answer), maxAddresses)
		}
		first[reply.Answer[0].(*miekg.A).A.String()]++
	}
	// Each is expected 100 times with a deviation of 10.
	for a, n := range first {
		if n < 30 || n > 200 {
			t.Errorf("%s came first %d times of %d", a, n, times)
		}
	}
	if len(first) != 20 {
		t.Errorf("%d addresses ever came first, want all 20", len(first))
	}
}

func TestInvalidQueries(t *testing.T) {
	s := mustNew(t, newCluster())
	pack := func(change func(*miekg.Msg)) []byte {
		q := question("clock.example.com.", miekg.TypeA)
		change(q)
		b, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	record, err := miekg.NewRR("clock.example.com. 60 IN A 192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	opt := func(q *miekg.Msg) {
		q.Extra = append(q.Extra, &miekg.OPT{Hdr: miekg.RR_Header{Name: ".", Rrtype: miekg.TypeOPT}})
	}
	for name, test := range map[string]struct {
		query []byte
		rcode int // -1 means no answer
	}{
		"nothing":            {nil, -1},
		"half a header":      {make([]byte, 11), -1},
		"an answer":          {pack(func(q *miekg.Msg) { q.Response = true }), -1},
		"a notification":     {pack(func(q *miekg.Msg) { q.Opcode = miekg.OpcodeNotify }), miekg.RcodeNotImplemented},
		"an update":          {pack(func(q *miekg.Msg) { q.Opcode = miekg.OpcodeUpdate }), miekg.RcodeNotImplemented},
		"a header":           {make([]byte, 12), miekg.RcodeFormatError},
		"no question":        {pack(func(q *miekg.Msg) { q.Question = nil }), miekg.RcodeFormatError},
		"two questions":      {pack(func(q *miekg.Msg) { q.Question = append(q.Question, q.Question[0]) }), miekg.RcodeFormatError},
		"with an answer":     {pack(func(q *miekg.Msg) { q.Answer = []miekg.RR{record} }), miekg.RcodeFormatError},
		"with an authority":  {pack(func(q *miekg.Msg) { q.Ns = []miekg.RR{record} }), miekg.RcodeFormatError},
		"three additional":   {pack(func(q *miekg.Msg) { q.Extra = []miekg.RR{record, record, record} }), miekg.RcodeFormatError},
		"EDNS twice":         {pack(func(q *miekg.Msg) { opt(q); opt(q) }), miekg.RcodeFormatError},
		"EDNS with a name":   {pack(func(q *miekg.Msg) { opt(q); q.Extra[0].Header().Name = "a." }), miekg.RcodeFormatError},
		"cut off":            {pack(func(*miekg.Msg) {})[:20], miekg.RcodeFormatError},
		"another class":      {pack(func(q *miekg.Msg) { q.Question[0].Qclass = miekg.ClassCHAOS }), miekg.RcodeRefused},
		"any class":          {pack(func(q *miekg.Msg) { q.Question[0].Qclass = miekg.ClassANY }), miekg.RcodeRefused},
		"with a signature":   {pack(func(q *miekg.Msg) { q.Extra = []miekg.RR{record} }), miekg.RcodeSuccess},
		"recursion, checked": {pack(func(q *miekg.Msg) { q.CheckingDisabled = true }), miekg.RcodeSuccess},
	} {
		b := s.answer(test.query, netip.MustParseAddr("198.51.100.1"), true)
		if test.rcode < 0 {
			if b != nil {
				t.Errorf("%s is answered %x, want no answer", name, b)
			}
			continue
		}
		var reply miekg.Msg
		if err := reply.Unpack(b); err != nil || reply.Rcode != test.rcode || !reply.Response || reply.RecursionAvailable ||
			reply.RecursionDesired != (test.query[2]&1 != 0) {
			t.Errorf("%s is answered %v, %v; want %s", name, &reply, err, miekg.RcodeToString[test.rcode])
		}
		if len(b) > len(test.query) && reply.Rcode != miekg.RcodeSuccess {
			t.Errorf("%s of %d bytes is answered with %d: a refusal must not be longer than the query", name, len(test.query), len(b))
		}
	}
}

func withEDNS(q *miekg.Msg, size uint16, options ...miekg.EDNS0) *miekg.Msg {
	q.SetEdns0(size, true)
	q.IsEdns0().Option = options
	return q
}

func subnet(prefix string) *miekg.EDNS0_SUBNET {
	p := netip.MustParsePrefix(prefix)
	e := &miekg.EDNS0_SUBNET{Code: miekg.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(p.Bits()), Address: net.IP(p.Addr().AsSlice())}
	if p.Addr().Is6() {
		e.Family = 2
	}
	return e
}

func TestEDNS(t *testing.T) {
	s := mustNew(t, newCluster())
	plainReply := ask(t, s, question("clock.example.com.", miekg.TypeA), true)
	if plainReply.IsEdns0() != nil {
		t.Error("a query without EDNS is answered with it")
	}
	opt := ask(t, s, withEDNS(question("clock.example.com.", miekg.TypeA), 4096), true).IsEdns0()
	if opt == nil || opt.UDPSize() != maxPacket || !opt.Do() || opt.Version() != 0 || len(opt.Option) != 0 {
		t.Errorf("EDNS is answered %v", opt)
	}
	q := withEDNS(question("clock.example.com.", miekg.TypeA), 4096)
	q.IsEdns0().SetVersion(1)
	reply := ask(t, s, q, true)
	if opt := reply.IsEdns0(); reply.Rcode != miekg.RcodeBadVers || opt == nil || opt.Version() != 0 || len(reply.Answer) != 0 {
		t.Errorf("version 1 is answered\n%s\nwant BADVERS and version 0", reply)
	}
}

func TestClientNetworkDecides(t *testing.T) {
	s := mustNew(t, newCluster(), func(c *Config, _ *Deps) { c.Networks = mustNetworks(t, offices+"198.51.100.0/24 ap-south\n") })
	us, eu, ap := addrs("192.0.1.1", "192.0.1.2"), addrs("192.0.2.1", "192.0.2.2"), addrs("192.0.3.1", "192.0.3.2")
	for name, test := range map[string]struct {
		name   string
		subnet *miekg.EDNS0_SUBNET
		addrs  []netip.Addr
		scope  int
	}{
		"an office":               {"clock.example.com.", subnet("10.20.128.0/24"), eu, 17},
		"a floor of it":           {"clock.example.com.", subnet("10.20.30.0/24"), ap, 24},
		"by the other family":     {"clock.example.com.", subnet("2001:db8:7::/48"), ap, 32},
		"elsewhere":               {"clock.example.com.", subnet("203.0.113.0/24"), us, 5},
		"does not want to say":    {"clock.example.com.", subnet("0.0.0.0/0"), us, 0},
		"says even less":          {"clock.example.com.", &miekg.EDNS0_SUBNET{Code: miekg.EDNS0SUBNET}, us, 0},
		"does not say":            {"clock.example.com.", nil, ap, 0}, // the resolver's address is in an office
		"asks for a region":       {"us-east.clock.example.com.", subnet("10.20.128.0/24"), us, 0},
		"asks for no such region": {"mars.clock.example.com.", subnet("10.20.128.0/24"), nil, 0},
	} {
		q := question(test.name, miekg.TypeA)
		if test.subnet != nil {
			withEDNS(q, 1232, test.subnet)
		}
		reply := ask(t, s, q, true)
		if got := answered(reply); !slices.Equal(got, test.addrs) {
			t.Errorf("%s is answered %v, want %v", name, got, test.addrs)
		}
		if test.subnet == nil {
			continue
		}
		got, ok := reply.IsEdns0().Option[0].(*miekg.EDNS0_SUBNET)
		if !ok || got.Family != test.subnet.Family || got.SourceNetmask != test.subnet.SourceNetmask || int(got.SourceScope) != test.scope ||
			test.subnet.Address != nil && !got.Address.Equal(test.subnet.Address) {
			t.Errorf("%s has the client's network back as %v, want %v with scope %d", name, got, test.subnet, test.scope)
		}
	}
	wrong := func(change func(*miekg.EDNS0_SUBNET)) *miekg.Msg {
		e := subnet("10.20.0.0/16")
		change(e)
		return withEDNS(question("clock.example.com.", miekg.TypeA), 1232, e)
	}
	for name, q := range map[string]*miekg.Msg{
		"a scope in the query": wrong(func(e *miekg.EDNS0_SUBNET) { e.SourceScope = 16 }),
		"two networks":         withEDNS(question("clock.example.com.", miekg.TypeA), 1232, subnet("10.0.0.0/8"), subnet("10.0.0.0/8")),
	} {
		if reply := ask(t, s, q, true); reply.Rcode != miekg.RcodeFormatError || reply.IsEdns0() == nil || len(reply.IsEdns0().Option) != 0 {
			t.Errorf("%s is answered\n%s\nwant FORMERR, with EDNS", name, reply)
		}
	}
	// A subnet of 24 bits with an address of 32 bits. Pack would shorten the address.
	packed, err := withEDNS(question("clock.example.com.", miekg.TypeA), 1232, subnet("10.20.30.0/24")).Pack()
	if err != nil {
		t.Fatal(err)
	}
	packed[len(packed)-5]-- // the length is one bit less than the address has
	packed[len(packed)-1] |= 1
	var reply miekg.Msg
	if err := reply.Unpack(s.answer(packed, netip.MustParseAddr("198.51.100.1"), true)); err != nil || reply.Rcode != miekg.RcodeFormatError {
		t.Errorf("bits beyond the network are answered %v, %v; want FORMERR", &reply, err)
	}
}

// crowded returns a region with as many addresses as an answer may have, and its name, which has the greatest length.
func crowded() (c *cluster, name string) {
	c, name = &cluster{}, strings.Repeat("r", 32)
	for i := range maxAddresses {
		a := netip.MustParseAddr("2001:db8::1").As16()
		a[14] = byte(i)
		c.members = append(c.members, region.Member{Node: fmt.Sprint("n", i), Region: region.Name(name), State: region.Ready, PublicAddrs: []netip.Addr{netip.AddrFrom16(a)}})
	}
	c.show()
	return c, name + ".clock." + strings.Repeat("abcdefghi.", 21) + "abc."
}

func TestTruncatedAnswerFitsOverTCP(t *testing.T) {
	c, name := crowded()
	s := mustNew(t, c, func(cfg *Config, _ *Deps) { _, cfg.Zone, _ = strings.Cut(name, ".clock.") })

	// Without a client's network even these addresses fit.
	if reply := ask(t, s, question(name, miekg.TypeAAAA), true); reply.Truncated || len(reply.Answer) != maxAddresses {
		t.Errorf("over UDP: %d addresses, truncated: %v", len(reply.Answer), reply.Truncated)
	}
	query := func(size uint16) *miekg.Msg {
		return withEDNS(question(name, miekg.TypeAAAA), size, subnet("2001:db8::1/128"))
	}
	reply := ask(t, s, query(100), true) // sizes below 512 count as 512
	reply.Compress = true
	if b, err := reply.Pack(); !reply.Truncated || len(reply.Answer) == maxAddresses || err != nil || len(b) > 512 {
		t.Errorf("over UDP: %d addresses, truncated: %v", len(reply.Answer), reply.Truncated)
	}
	for what, reply := range map[string]*miekg.Msg{
		"TCP":  ask(t, s, query(512), false),
		"EDNS": ask(t, s, query(1232), true),
	} {
		if reply.Truncated || len(reply.Answer) != maxAddresses {
			t.Errorf("by %s: %d addresses, truncated: %v", what, len(reply.Answer), reply.Truncated)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())).Meter("test")
	s := mustNew(b, newCluster(), func(c *Config, d *Deps) { c.Networks, d.Meter = mustNetworks(b, offices), meter })
	query, err := withEDNS(question("clock.example.com.", miekg.TypeA), 1232, subnet("10.20.128.0/24")).Pack()
	if err != nil {
		b.Fatal(err)
	}
	from := netip.MustParseAddr("198.51.100.1")
	b.ReportAllocs()
	for b.Loop() {
		if s.answer(query, from, true) == nil {
			b.Fatal("no answer")
		}
	}
}

// FuzzAnswer sends any bytes. The reply must be a valid answer to them.
func FuzzAnswer(f *testing.F) {
	add := func(q *miekg.Msg) {
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
	}
	add(question("eu-west.clock.example.com.", miekg.TypeA))
	add(question("clock.example.com.", miekg.TypeANY))
	add(withEDNS(question("clock.example.com.", miekg.TypeAAAA), 4096, subnet("10.20.30.0/24"), &miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: "0123456789abcdef"}))
	f.Add([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}, true) // a name whose pointer points at itself
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 8, 0, 8, 0, 4, 0, 3, 32, 0}, false)
	s := mustNew(f, newCluster(), func(c *Config, _ *Deps) { c.Networks = mustNetworks(f, offices) })
	f.Fuzz(func(t *testing.T, query []byte, udp bool) {
		b := s.respond(query, netip.MustParseAddr("10.20.30.40"), udp)
		if b == nil {
			if len(query) >= headerSize && query[2]&0x80 == 0 {
				t.Errorf("%x is not answered", query)
			}
			return
		}
		var reply miekg.Msg
		if err := reply.Unpack(b); err != nil {
			t.Fatalf("%x is answered %x, which is not valid: %v", query, b, err)
		}
		if reply.Id != uint16(query[0])<<8|uint16(query[1]) || !reply.Response || reply.RecursionAvailable {
			t.Errorf("%x is answered %s", query, &reply)
		}
		if udp && len(b) > maxPacket {
			t.Errorf("%x is answered with %d bytes", query, len(b))
		}
		for _, rr := range reply.Answer {
			if !strings.EqualFold(rr.Header().Name, reply.Question[0].Name) || !miekg.IsSubDomain(s.apex, rr.Header().Name) {
				t.Errorf("%x is answered %s", query, &reply)
			}
		}
	})
}
