package dns

import (
	"net/netip"

	miekg "github.com/miekg/dns"
)

// edns is the EDNS data of a query (RFC 6891).
type edns struct {
	opt    *miekg.OPT // nil if the query has none
	subnet *miekg.EDNS0_SUBNET
	// clientSubnet is the prefix in subnet.
	clientSubnet netip.Prefix
	rcode        int
}

// readEDNS returns the EDNS data, or an rcode for data that is not valid. The answer to data that is not valid has
// EDNS, too (section 6.1.1), unless the query has EDNS twice.
func readEDNS(q *miekg.Msg) (e edns) {
	for _, rr := range q.Extra {
		opt, is := rr.(*miekg.OPT)
		if !is {
			continue
		}
		if e.opt != nil || opt.Hdr.Name != "." {
			return edns{rcode: miekg.RcodeFormatError}
		}
		e.opt = opt
	}
	if e.opt == nil {
		return e
	}
	if e.opt.Version() != 0 {
		e.rcode = miekg.RcodeBadVers
		return e
	}
	for _, o := range e.opt.Option {
		subnet, is := o.(*miekg.EDNS0_SUBNET)
		if !is {
			continue
		}
		twice := e.subnet != nil
		if e.subnet = subnet; twice || !e.readSubnet() {
			return edns{opt: e.opt, rcode: miekg.RcodeFormatError}
		}
	}
	return e
}

// readSubnet reads the client's network, and reports whether it is well formed (RFC 7871, section 7.1.2).
func (e *edns) readSubnet() (ok bool) {
	if e.subnet.SourceScope != 0 {
		return false
	}
	if e.subnet.Family == 0 { // some clients send an empty subnet
		return true
	}
	addr, ok := netip.AddrFromSlice(e.subnet.Address)
	if !ok {
		return false
	}
	if e.subnet.Family == 1 {
		addr = addr.Unmap()
	}
	e.clientSubnet = netip.PrefixFrom(addr, int(e.subnet.SourceNetmask))
	return e.clientSubnet.IsValid() && e.clientSubnet == e.clientSubnet.Masked()
}

// client returns the network that the answer is for: the network in the query, or else the sender's address. An empty
// network in the query means that the client stays anonymous.
func (e *edns) client(from netip.Addr) netip.Prefix {
	if e.subnet != nil {
		return e.clientSubnet
	}
	from = from.Unmap().WithZone("")
	return netip.PrefixFrom(from, from.BitLen())
}

// limit returns the greatest length of an answer over UDP.
func (e *edns) limit() int {
	if e.opt == nil {
		return miekg.MinMsgSize
	}
	return min(max(int(e.opt.UDPSize()), miekg.MinMsgSize), maxPacket)
}

// addTo adds EDNS to the answer if the query has EDNS.
func (e *edns) addTo(reply *miekg.Msg, scope int) {
	if e.opt == nil {
		return
	}
	opt := &miekg.OPT{Hdr: miekg.RR_Header{Name: ".", Rrtype: miekg.TypeOPT}}
	opt.SetUDPSize(maxPacket)
	opt.SetDo(e.opt.Do())
	if e.subnet != nil {
		answer := *e.subnet
		answer.SourceScope = uint8(scope)
		opt.Option = append(opt.Option, &answer)
	}
	reply.Extra = append(reply.Extra, opt)
}
