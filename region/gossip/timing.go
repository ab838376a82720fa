package gossip

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// Failure detection: one pool over all regions, with the timings of a local
// network and a probe time-out that a packet round the world stays within. A
// lost node is off the board in about 5 s, a lost region in under 10 s.
// memberlist's WAN profile takes 36 to 59 s, which no caller waits for.
const (
	// Each node probes one other a second. Nine nodes probe each one about
	// once a second together, so a silent one is suspected within 2 s.
	probeInterval = 750 * time.Millisecond
	// Above the longest round trip between two cloud regions (about 350 ms),
	// and below half of the probe interval: helpers that cannot reach the node
	// either say so after one more time-out, and an answer that comes after
	// the interval would count against this node's own health.
	probeTimeout = 350 * time.Millisecond
	// How long a suspect may take to object: at least 3 s × log10 of the
	// nodes, 1 up to ten of them. An objection takes well under a second, a
	// node paused for longer is better not asked.
	suspicionMult = 3
	// Without a second node that suspects the same one, twice as long: it may
	// be this node that cannot hear. The library's 6 keeps a lost region on the
	// board for up to 18 s when few are left to agree.
	suspicionMaxTimeoutMult = 2
	// A node in doubt of itself takes longer to probe, at most by this factor.
	// The survivors of a lost region are in doubt, because their helpers are
	// dead too: with the library's 8 they slow down just when speed matters.
	awarenessMaxMultiplier = 2
	// A helper in each of the other regions, as a rule.
	indirectChecks = 3
)

// Dissemination.
const (
	// Ten rounds of 3 others reach a hundred nodes: 2 s for any news.
	gossipInterval = 200 * time.Millisecond
	gossipNodes    = 3
	retransmitMult = 4
	// The dead are still told of their death for this long, so that one that
	// only paused objects. Longer cuts are healed by the join loop.
	gossipToTheDead = 30 * time.Second
	// Repairs what broadcasts lost, such as a state. It is one small exchange
	// per node, so twice as often as the library's 30 s costs nothing.
	pushPullInterval = 15 * time.Second
	// Bounds each step of a join or a push/pull. Connecting takes a round trip
	// (350 ms), or one second more when its first packet is lost.
	streamTimeout = 3 * time.Second
	// A datagram that no path fragments, the library's choice.
	packetSize = 1400
)

// Own traffic.
const (
	// As often as the routers of the other nodes can make use of it.
	loadInterval = time.Second
	// Loads are repeated every second, so each need not reach all: fewer
	// transmissions leave room for a hundred nodes' loads.
	loadRetransmitMult = 3
	// How long views wait for more loads before they show them. A busy pool
	// brings hundreds of loads a second, each view copies all members.
	viewInterval = 100 * time.Millisecond
	// An update is sent four times to three others each, within a second. It
	// is not lost after the time-out: every push/pull carries it.
	updateTimeout = 2 * time.Second
	// Leaving takes as long as an update; a stop must not wait for more.
	leaveTimeout = 2 * time.Second
)

// Joining.
const (
	// How long a start waits for the first other node.
	firstJoin = 10 * time.Second
	// While starting, others that start too may listen any moment.
	firstJoinRetry = 500 * time.Millisecond
	// How soon a healed partition is noticed, give or take the jitter that
	// keeps nodes from asking in step.
	rejoinInterval = 10 * time.Second
	// Joins of one round that run side by side. Each costs a connection and
	// up to three stream time-outs.
	joinParallel = 8
	// Addresses tried in one round, half of them seeds. One that answers is
	// enough: the pool does the rest.
	joinTargets = 16
	// A resolver's usual time-out for one try.
	resolveTimeout = 5 * time.Second
	// How long and how many lost nodes are remembered. Seeds cover the rest.
	rememberFor   = time.Hour
	rememberNodes = 128
)

// pace is what the tests hurry.
type pace struct {
	load, view, rejoin, rejoinRetry, firstJoin time.Duration
	tune                                       func(*memberlist.Config)
	wrap                                       func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport
}

func defaultPace() pace {
	return pace{
		load: loadInterval, view: viewInterval,
		rejoin: rejoinInterval, rejoinRetry: firstJoinRetry, firstJoin: firstJoin,
		tune: func(*memberlist.Config) {},
		wrap: func(t memberlist.NodeAwareTransport) memberlist.NodeAwareTransport { return t },
	}
}

// memberlistConfig applies the timings above.
func memberlistConfig(cfg Config, transport memberlist.Transport) (*memberlist.Config, error) {
	c := memberlist.DefaultLANConfig()
	c.Name = cfg.Self.Node
	c.Label = cfg.Label
	c.Transport = transport
	c.TCPTimeout = streamTimeout
	c.ProbeInterval, c.ProbeTimeout = probeInterval, probeTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = suspicionMult, suspicionMaxTimeoutMult
	c.AwarenessMaxMultiplier = awarenessMaxMultiplier
	c.IndirectChecks = indirectChecks
	c.GossipInterval, c.GossipNodes = gossipInterval, gossipNodes
	c.RetransmitMult = retransmitMult
	c.GossipToTheDeadTime = gossipToTheDead
	c.PushPullInterval = pushPullInterval
	c.UDPBufferSize = packetSize
	// Packets of a few hundred bytes hardly shrink, and every one would pay.
	c.EnableCompression = false
	if len(cfg.Keys) > 0 {
		keyring, err := memberlist.NewKeyring(cfg.Keys, cfg.Keys[0])
		if err != nil {
			return nil, err
		}
		c.Keyring = keyring
	}
	return c, nil
}
