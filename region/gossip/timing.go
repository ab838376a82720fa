package gossip

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// Failure detection: one pool over all regions, with timings near those of a
// local network. With nine nodes in three regions, 200 ms apart, a lost node
// was off all boards after 3 to 5 s and a lost region after 4 to 7 s; with 30
// nodes a region took up to 10 s. memberlist's WAN profile takes 36 to 59 s,
// which no caller waits for.
const (
	// Each node probes one other at a time, so nine nodes probe each one more
	// than once a second together. The library's second made a lost region
	// take up to 10 s, because a probe of the dead holds up the next one.
	probeInterval = 750 * time.Millisecond
	// Above the longest round trip between two cloud regions (about 330 ms).
	// Then helpers are asked, which have the rest of the interval; an answer of
	// the node itself still counts, too.
	probeTimeout = 350 * time.Millisecond
	// How long a suspect may take to object, times the probe interval and
	// log10 of the nodes, 1 up to ten of them: 2.25 s at least. An objection
	// takes well under a second; a node paused for longer is better not asked,
	// and comes back by itself.
	suspicionMult = 3
	// Without a second node that suspects the same one, twice as long: it may
	// be this node that cannot hear. The library's 6 keeps a lost region on the
	// cluster for long when few are left to agree.
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
	// A few rounds of 3 others each reach a hundred nodes: a second for any
	// news, beside the way between the regions.
	gossipInterval = 200 * time.Millisecond
	gossipNodes    = 3
	// Times log10 of the nodes, rounded up: how often each node sends a piece
	// of news. With the library's 4, one change in fifteen misses one of nine
	// nodes; with 8 it is one in thousands.
	retransmitMult = 8
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
	// How often keys are read again. An operator waits on each step of a
	// rotation, and a keyring is a file of some hundred bytes.
	keysInterval = time.Second
	// An update is sent 8 to 16 times, to 3 others in each gossip interval. It
	// is not lost after the time-out: every push/pull carries it.
	updateTimeout = 2 * time.Second
	// Leaving takes eight gossip intervals with one other node, fewer with
	// more. When all go at once nobody confirms, so a stop waits no longer.
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
	load, view, keys, rejoin, rejoinRetry, firstJoin time.Duration
	tune                                             func(*memberlist.Config)
	wrap                                             func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport
}

func defaultPace() pace {
	return pace{
		load: loadInterval, view: viewInterval, keys: keysInterval,
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
