package gossip

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// Failure detection. One cluster spans all regions, with timings near those of a local network. Measured with nine
// nodes in three regions 200 ms apart, all views lost a dead node after 3 to 5 s and a dead region after 4 to 7 s. With
// 30 nodes a region took up to 10 s. With memberlist's WAN profile detection takes 36 to 59 s, which is longer than
// callers wait.
const (
	// Each node probes one other node at a time, so nine nodes probe each node more than once a second together. With
	// the library's 1 s a dead region took up to 10 s to detect, because a probe of a dead node delays the next probe.
	probeInterval = 750 * time.Millisecond
	// Longer than the longest round trip between two cloud regions, about 330 ms. After it indirect probes have the
	// rest of the interval, and a late answer of the node itself still counts.
	probeTimeout = 350 * time.Millisecond
	// How long a suspect may object: this number times the probe interval times log10 of the nodes, which is 1 up to
	// ten nodes. So it is at least 2.25 s. An objection takes well under a second. A node that pauses for longer should
	// get no punches, and rejoins by itself.
	suspicionMult = 3
	// If no second node suspects the same node, the time doubles: perhaps this node itself cannot hear. The library's 6
	// keeps a dead region in the views for long when few nodes are left to agree.
	suspicionMaxTimeoutMult = 2
	// A node that doubts itself probes more slowly, at most by this factor. The survivors of a dead region doubt
	// themselves, because their indirect probes fail, too. With the library's 8 they are slow when speed matters most.
	awarenessMaxMultiplier = 2
	// Usually one node in each other region.
	indirectChecks = 3
)

// Dissemination.
const (
	// A few rounds to three random nodes reach a hundred nodes: about a second, and the delay between the regions.
	gossipInterval = 200 * time.Millisecond
	gossipNodes    = 3
	// How often each node sends a message: this number times log10 of the nodes, rounded up. With the library's 4, one
	// message in fifteen misses one of nine nodes. With 8, one in thousands does.
	retransmitMult = 8
	// How long a dead node is told that it is dead, so that a node that only paused objects. The join loop heals longer
	// interruptions.
	gossipToTheDead = 30 * time.Second
	// A push/pull repairs lost messages. It is one small exchange for each node, so twice the library's frequency costs
	// nothing.
	pushPullInterval = 15 * time.Second
	// The limit of each step of a join or a push/pull. A connection takes one round trip of at most 350 ms, and one
	// second more if its first packet is lost.
	streamTimeout = 3 * time.Second
	// A datagram that no path fragments. This is the library's choice.
	packetSize = 1400
)

// Own messages.
const (
	// As often as the routers of other nodes benefit from it.
	loadInterval = time.Second
	// Loads are sent every second, so each of them need not reach all nodes. Fewer transmissions leave room for the
	// loads of a hundred nodes.
	loadRetransmitMult = 3
	// How long new loads wait for a view. A busy cluster sends hundreds of loads a second, and each view copies all
	// members.
	viewInterval = 100 * time.Millisecond
	// How often the keys are read. An operator waits for each step of a rotation, and a keyring file has some hundred
	// bytes.
	keysInterval = time.Second
	// An update is sent 8 to 16 times, to three nodes in each gossip interval. After the timeout it is not lost: every
	// push/pull carries it.
	updateTimeout = 2 * time.Second
	// Leaving takes eight gossip intervals with one other node, and fewer with more nodes. If all nodes leave at once,
	// no node confirms, so a stop waits no longer than this.
	leaveTimeout = 2 * time.Second
)

// Joining.
const (
	// How long a start waits for the first other node.
	firstJoin = 10 * time.Second
	// While all nodes start, another node may listen at any moment.
	firstJoinRetry = 500 * time.Millisecond
	// How soon a healed partition is noticed. Jitter keeps the nodes from asking at the same time.
	rejoinInterval = 10 * time.Second
	// Joins of one round that run in parallel. Each costs a connection and up to three stream timeouts.
	joinParallel = 8
	// The number of addresses in a round, half of them seeds. One answer is enough: gossip does the rest.
	joinTargets = 16
	// The usual timeout of a resolver for one try.
	resolveTimeout = 5 * time.Second
	// How long, and how many, removed nodes are remembered. Seeds cover the others.
	rememberFor   = time.Hour
	rememberNodes = 128
)

// timings are the values that tests change.
type timings struct {
	load, view, keys, rejoin, rejoinRetry, firstJoin time.Duration
	tune                                             func(*memberlist.Config)
	wrap                                             func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport
}

func defaultTimings() timings {
	return timings{
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
	// Packets of a few hundred bytes hardly shrink, and compression would cost time for each of them.
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
