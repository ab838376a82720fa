package dns

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"

	"github.com/punchclock/punchclock/region"
)

const (
	headerSize = 12
	// maxPacket is a length that no path fragments (the DNS flag day of 2020). Longer packets are neither sent nor
	// read.
	maxPacket = 1232
	// maxAddresses is enough for a client to try. Eight IPv6 addresses fit into 512 bytes unless the name is very long.
	maxAddresses = 8
	// The names of the servers do not depend on the state of the cluster.
	nameServerTTL = 3600
)

// respond returns the answer to a query in wire format, or nil for no answer.
func (s *Server) respond(query []byte, from netip.Addr, udp bool) []byte {
	// Two servers that answer answers would never stop.
	if len(query) < headerSize || query[2]&0x80 != 0 {
		s.metrics.drop(droppedNoQuery)
		return nil
	}
	reply, limit := s.reply(query, from)
	if !udp {
		limit = miekg.MaxMsgSize
	}
	reply.Truncate(limit) // the client asks again over TCP
	reply.Compress = true // also small answers: a forged sender address must not amplify traffic
	packed, err := reply.Pack()
	if err != nil { // no query can cause this
		s.log.Error("answer not sent", "error", err)
		s.metrics.drop(droppedUnsent)
		return nil
	}
	s.metrics.query(reply.Rcode, udp)
	return packed
}

// reply returns the answer to one query and the greatest length of its packet.
func (s *Server) reply(query []byte, from netip.Addr) (reply *miekg.Msg, limit int) {
	reply, limit = new(miekg.Msg), miekg.MinMsgSize
	reply.Id = binary.BigEndian.Uint16(query)
	reply.Response = true
	reply.Opcode = int(query[2]>>3) & 0xf
	reply.RecursionDesired = query[2]&1 != 0
	if reply.Opcode != miekg.OpcodeQuery {
		reply.Rcode = miekg.RcodeNotImplemented
		return reply, limit
	}
	var q miekg.Msg
	if !plain(query) || q.Unpack(query) != nil || len(q.Question) != 1 { // Unpack accepts a header without a question
		reply.Rcode = miekg.RcodeFormatError
		return reply, limit
	}
	reply.Question = q.Question
	reply.CheckingDisabled = q.CheckingDisabled
	e := readEDNS(&q)
	scope := 0
	if reply.Rcode = e.rcode; reply.Rcode == miekg.RcodeSuccess {
		scope = s.resolve(reply, e.client(from))
	}
	e.addTo(reply, scope)
	return reply, e.limit()
}

// plain reports whether a query has the usual sections: one question, no answer, no authority, and at most EDNS and a
// signature. The check comes before unpacking, so that a small packet cannot cause much work.
func plain(query []byte) bool {
	count := func(at int) uint16 { return binary.BigEndian.Uint16(query[at:]) }
	return count(4) == 1 && count(6) == 0 && count(8) == 0 && count(10) <= 2
}

// resolve fills in the answer, and returns how many bits of the client's address it depends on.
func (s *Server) resolve(reply *miekg.Msg, client netip.Prefix) (scope int) {
	q := reply.Question[0]
	name := strings.ToLower(q.Name)
	if q.Qclass != miekg.ClassINET || !miekg.IsSubDomain(s.apex, name) || q.Qtype == miekg.TypeAXFR || q.Qtype == miekg.TypeIXFR {
		reply.Rcode = miekg.RcodeRefused
		return 0
	}
	reply.Authoritative = true
	// The apex in the letters of the query: some clients compare them.
	apex := q.Name[len(q.Name)-len(s.apex):]
	p := s.current.Load()
	own := region.Name(strings.TrimSuffix(strings.TrimSuffix(name, s.apex), "."))
	if _, known := p.regions[own]; !known && own != "" {
		reply.Rcode = miekg.RcodeNameError
		reply.Ns = []miekg.RR{s.soa(apex)}
		return 0
	}
	switch q.Qtype {
	case miekg.TypeA, miekg.TypeAAAA:
		of := func(a netip.Addr) bool { return a.Is4() == (q.Qtype == miekg.TypeA) }
		if own != "" {
			s.address(reply, p.forRegion(own, of), of)
			break
		}
		var near []region.Name
		near, scope = s.cfg.Networks.near(client)
		s.address(reply, p.forApex(near, of), of)
	case miekg.TypeANY: // a short answer instead of all records: RFC 8482
		reply.Answer = []miekg.RR{&miekg.HINFO{Hdr: s.header(q.Name, miekg.TypeHINFO), Cpu: "RFC8482"}}
	case miekg.TypeSOA:
		if own == "" {
			reply.Answer = []miekg.RR{s.soa(q.Name)}
		}
	case miekg.TypeNS:
		if own == "" {
			reply.Answer = s.nameServers(q.Name)
		}
	}
	if len(reply.Answer) == 0 && reply.Rcode == miekg.RcodeSuccess {
		reply.Ns = []miekg.RR{s.soa(apex)}
	}
	return scope
}

// address answers with chosen addresses of the family, in a random order that spreads the clients.
func (s *Server) address(reply *miekg.Msg, chosen choice, of family) {
	q := reply.Question[0]
	if len(chosen.addrs) == 0 { // another server may know addresses
		reply.Rcode, reply.Authoritative = miekg.RcodeServerFailure, false
		return
	}
	s.metrics.answer(chosen)
	addrs := slices.DeleteFunc(slices.Clone(chosen.addrs), func(a netip.Addr) bool { return !of(a) })
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	for _, a := range addrs[:min(len(addrs), maxAddresses)] {
		if a.Is4() {
			reply.Answer = append(reply.Answer, &miekg.A{Hdr: s.header(q.Name, miekg.TypeA), A: a.AsSlice()})
		} else {
			reply.Answer = append(reply.Answer, &miekg.AAAA{Hdr: s.header(q.Name, miekg.TypeAAAA), AAAA: a.AsSlice()})
		}
	}
}

func (s *Server) header(name string, rrtype uint16) miekg.RR_Header {
	return miekg.RR_Header{Name: name, Rrtype: rrtype, Class: miekg.ClassINET, Ttl: s.ttl}
}

func (s *Server) nameServers(name string) (list []miekg.RR) {
	for _, ns := range s.cfg.NameServers {
		hdr := s.header(name, miekg.TypeNS)
		hdr.Ttl = nameServerTTL
		list = append(list, &miekg.NS{Hdr: hdr, Ns: miekg.Fqdn(ns)})
	}
	return list
}

// soa returns the record that says how long a negative answer is kept. No server copies the zone, so the serial is the
// time.
func (s *Server) soa(name string) miekg.RR {
	return &miekg.SOA{
		Hdr: s.header(name, miekg.TypeSOA), Ns: miekg.Fqdn(s.cfg.NameServers[0]), Mbox: "hostmaster." + strings.TrimPrefix(s.apex, clock+"."),
		Serial: uint32(s.now().Unix()), Refresh: 3600, Retry: 600, Expire: 86400, Minttl: s.ttl,
	}
}
