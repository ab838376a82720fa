package gossip

import (
	"encoding/binary"
	"errors"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. Its event methods run under memberlist's
// node lock, so they must not call the Memberlist.
type delegate struct{ g *Gossip }

var (
	_ memberlist.Delegate      = delegate{}
	_ memberlist.EventDelegate = delegate{}
)

// NodeMeta is checked for its size in New.
func (d delegate) NodeMeta(int) []byte { return d.g.roster.meta() }

func (d delegate) NotifyJoin(n *memberlist.Node) { d.put(n, "node joined") }

func (d delegate) NotifyUpdate(n *memberlist.Node) { d.put(n, "node changed") }

func (d delegate) put(n *memberlist.Node, event string) {
	if n.Name == d.g.cfg.Self.Node || !d.g.enter() {
		return
	}
	defer d.g.exit()
	d.g.meet()
	m, err := decodeMeta(n.Meta)
	d.g.roster.put(n.Name, n.Address(), m, err == nil)
	if err != nil {
		d.g.metrics.refuse(refusedMeta)
		d.g.log.Warn(event+", but is not shown", "peer", n.Name, "addr", n.Address(), "error", err)
		return
	}
	d.g.log.Info(event, "peer", n.Name, "addr", n.Address(), "state", m.State.String())
}

func (d delegate) NotifyLeave(n *memberlist.Node) {
	if n.Name == d.g.cfg.Self.Node || !d.g.enter() {
		return
	}
	defer d.g.exit()
	d.g.log.Info("node left or died", "peer", n.Name, "addr", n.Address())
	d.g.roster.drop(n.Name)
}

// NotifyMsg takes a broadcast. b is only valid during the call.
func (d delegate) NotifyMsg(b []byte) {
	if !d.g.enter() {
		return
	}
	defer d.g.exit()
	m, err := decodeMessage(b)
	switch {
	case errors.Is(err, errUnknownKind):
		d.g.metrics.refuse(refusedKind)
	case err != nil:
		d.g.metrics.refuse(refusedMessage)
	case m.kind == kindLoad:
		if d.g.roster.setLoad(m.load) {
			d.g.sendLoad(m.load)
		}
	case m.kind == kindCompany:
		d.g.heard(m.company)
	case m.kind == kindSwitch:
		d.g.receiveEvacuation(m.switched.Evacuation)
	case m.kind == kindKeys:
		d.g.heardKeys(m.keys)
	}
}

// GetBroadcasts fills what a packet has left. Where both wait, loads take half
// of it at most, so neither keeps the other from going out.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	forLoads := limit
	if d.g.news.outbox.waiting() > 0 {
		forLoads = limit / 2
	}
	out := d.g.loads.take(overhead, forLoads)
	for _, m := range out {
		limit -= len(m) + overhead
	}
	return append(out, d.g.news.outbox.take(overhead, limit)...)
}

func (d delegate) LocalState(bool) []byte {
	s := d.g.roster.state()
	for _, e := range d.g.deps.Evacuations() {
		s.switches = append(s.switches, switchNews{Evacuation: e})
	}
	return encodeState(s)
}

// MergeRemoteState takes the switches, loads and keys of a push/pull. Loads and
// keys are not passed on: newer loads come within a second, and keys with every
// other push/pull.
func (d delegate) MergeRemoteState(b []byte, _ bool) {
	s, err := decodeState(b)
	if err != nil {
		d.g.metrics.refuse(refusedState)
		d.g.log.Debug("state of a push/pull is not fully read", "error", err)
	}
	if d.g.enter() { // a callback of ours may be called
		for _, n := range s.switches {
			d.g.receiveEvacuation(n.Evacuation)
		}
		d.g.exit()
	}
	for _, n := range s.loads {
		d.g.roster.setLoad(n)
	}
	for _, n := range s.keys {
		d.g.roster.setKeys(n)
	}
}

// sendLoad queues a load in the place of the node's earlier one.
func (g *Gossip) sendLoad(n loadNews) {
	g.loads.put(string(binary.BigEndian.AppendUint64(nil, n.node)), n.encode())
}
