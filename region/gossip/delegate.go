package gossip

import (
	"encoding/binary"
	"errors"

	"github.com/hashicorp/memberlist"

	"github.com/punchclock/punchclock/region/gossip/gossippb"
)

// delegate has the methods that memberlist calls. memberlist holds its node lock during the Notify methods of nodes, so
// they must not call memberlist.
type delegate struct{ g *Gossip }

var (
	_ memberlist.Delegate      = delegate{}
	_ memberlist.EventDelegate = delegate{}
)

// NodeMeta returns this node's metadata. New has checked that it fits.
func (d delegate) NodeMeta(int) []byte { return d.g.members.meta() }

func (d delegate) NotifyJoin(n *memberlist.Node) { d.put(n, "node joined") }

func (d delegate) NotifyUpdate(n *memberlist.Node) { d.put(n, "node changed") }

func (d delegate) put(n *memberlist.Node, event string) {
	if n.Name == d.g.cfg.Self.Node || !d.g.enter() {
		return
	}
	defer d.g.exit()
	d.g.markJoined()
	m, err := decodeMeta(n.Meta)
	d.g.members.put(n.Name, n.Address(), m, err == nil)
	if err != nil {
		d.g.metrics.refuse(refusedMeta)
		d.g.log.Warn(event+", but its metadata is not valid: it gets no punches", "peer", n.Name, "addr", n.Address(), "error", err)
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
	d.g.members.remove(n.Name)
}

// NotifyMsg receives a broadcast. b is only valid during the call. What is news goes on to other nodes.
func (d delegate) NotifyMsg(b []byte) {
	if !d.g.enter() {
		return
	}
	defer d.g.exit()
	m, err := decodeMessage(b)
	if err != nil {
		if errors.Is(err, errUnknownContent) {
			d.g.metrics.refuse(refusedContent)
		} else {
			d.g.metrics.refuse(refusedMessage)
		}
		return
	}
	switch content := m.GetContent().(type) {
	case *gossippb.Message_Load:
		if d.g.members.setLoad(content.Load) {
			d.g.broadcastLoad(content.Load)
		}
	case *gossippb.Message_Evacuation, *gossippb.Message_Degradation:
		if s, err := decodeSwitch(switchOf(m)); err == nil {
			d.g.receiveSwitch(s)
		}
	case *gossippb.Message_Keys:
		if d.g.members.setKeys(content.Keys) {
			d.g.broadcastKeys(content.Keys)
		}
	}
}

// GetBroadcasts fills the free bytes of a packet. Loads get at most half of them while other messages wait, so that
// neither keeps the other from being sent.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	forLoads := limit
	if d.g.switches.waiting()+d.g.keys.waiting() > 0 {
		forLoads = limit / 2
	}
	out := d.g.loads.take(overhead, forLoads)
	for _, q := range []*broadcastQueue{d.g.switches, d.g.keys} {
		left := limit
		for _, m := range out {
			left -= len(m) + overhead
		}
		out = append(out, q.take(overhead, left)...)
	}
	return out
}

// nodeKey names the messages of a node in a queue.
func nodeKey(id uint64) string { return string(binary.BigEndian.AppendUint64(nil, id)) }

func (g *Gossip) broadcastLoad(l *gossippb.Load) { g.loads.put(nodeKey(l.GetNode()), loadMessage(l)) }

func (g *Gossip) broadcastKeys(k *gossippb.Keys) { g.keys.put(nodeKey(k.GetNode()), keysMessage(k)) }
