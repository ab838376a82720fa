package dns

import (
	"net/netip"

	miekg "github.com/miekg/dns"
)

// edns is what a query says by EDNS (RFC 6891).
type edns struct {
	opt    *miekg.OPT // nil without
	subnet *miekg.EDNS0_SUBNET
	asker  netip.Prefix // of subnet
	rcode  int
}

// readEDNS reads it, or says by the rcode what is wrong with it. Also what is
// wrong is answered with EDNS (section 6.1.1), unless it is there twice.
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

// readSubnet takes the client's network; RFC 7871, section 7.1.2, says what is
// not well formed.
func (e *edns) readSubnet() (ok bool) {
	if e.subnet.SourceScope != 0 {
		return false
	}
	if e.subnet.Family == 0 { // some send it with no bits at all
		return true
	}
	addr, ok := netip.AddrFromSlice(e.subnet.Address)
	if !ok {
		return false
	}
	if e.subnet.Family == 1 {
		addr = addr.Unmap()
	}
	e.asker = netip.PrefixFrom(addr, int(e.subnet.SourceNetmask))
	return e.asker.IsValid() && e.asker == e.asker.Masked()
}

// client returns whom the answer is for: the network that the query carries,
// or else whoever asks. That a client does not want to be known is respected.
func (e *edns) client(from netip.Addr) netip.Prefix {
	if e.subnet != nil {
		return e.asker
	}
	from = from.Unmap().WithZone("")
	return netip.PrefixFrom(from, from.BitLen())
}

// limit returns how long an answer over UDP may be.
func (e *edns) limit() int {
	if e.opt == nil {
		return miekg.MinMsgSize
	}
	return min(max(int(e.opt.UDPSize()), miekg.MinMsgSize), maxPacket)
}

// addTo answers EDNS with EDNS.
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
