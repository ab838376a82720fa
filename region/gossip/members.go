package gossip

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/region/gossip/gossippb"
)

// members is this node's own list of members, which becomes the views of the cluster. It takes no lock of memberlist,
// so it may be used while memberlist holds one.
type members struct {
	cluster *region.Cluster
	now     func() time.Time
	dirty   chan struct{} // holds a token while new loads wait for a view

	mu      sync.Mutex // guards all fields below, and the order of the views
	self    member
	byName  map[string]*member   // the other nodes
	byID    map[uint64]*member   // the same nodes by nodeID
	removed map[string]time.Time // gossip address of a removed node to the time of its removal
}

// member is a node and what it reported by broadcasts.
type member struct {
	region.Member
	addr    string // its gossip address, host:port
	loadSeq uint64 // of the newest load; 0 before the first
	keysSeq uint64 // of the newest keys; 0 before the first
	keys    []Fingerprint
	hidden  bool // its metadata is not valid
}

func newMembers(self region.Member, cluster *region.Cluster) *members {
	m := &members{
		cluster: cluster, now: time.Now, dirty: make(chan struct{}, 1),
		byName: make(map[string]*member), byID: make(map[uint64]*member), removed: make(map[string]time.Time),
	}
	self.StateAt = m.now()
	m.self.Member = self
	m.publish()
	return m
}

// publish sets a new view of the cluster. The caller holds mu, except in newMembers.
func (m *members) publish() {
	list := make([]region.Member, 0, len(m.byName)+1)
	list = append(list, m.self.Member)
	for _, other := range m.byName {
		if !other.hidden {
			list = append(list, other.Member)
		}
	}
	m.cluster.Set(region.NewView(m.self.Node, list))
}

// publishLoads sets a view with the loads of setLoad and setSelfLoad.
func (m *members) publishLoads() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.publish()
}

func (m *members) markDirty() {
	select {
	case m.dirty <- struct{}{}:
	default:
	}
}

// setState changes this node's own state.
func (m *members) setState(s region.State) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.self.State == s {
		return false
	}
	m.self.State, m.self.StateAt = s, m.now()
	m.publish()
	return true
}

// meta returns this node's present metadata.
func (m *members) meta() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return encodeMeta(m.self.Member)
}

// setSelfLoad stores this node's own load and returns its message.
func (m *members) setSelfLoad(load region.Load) *gossippb.Load {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.self.loadSeq++
	if m.self.Load != load {
		m.self.Load = load
		m.markDirty()
	}
	return m.self.encodeLoad()
}

// put adds or updates another node. It ignores Node, Load and StateAt of meta. A node with metadata that is not valid
// is kept and hidden: gossip goes on with it, but no view shows it.
func (m *members) put(node, addr string, meta region.Member, valid bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if node == m.self.Node {
		return
	}
	other, known := m.byName[node]
	if !known {
		other = &member{}
		m.byName[node], m.byID[nodeID(node)] = other, other
	}
	meta.Node, meta.Load, meta.StateAt = node, other.Load, other.StateAt
	if !known || other.State != meta.State {
		meta.StateAt = m.now()
	}
	other.Member, other.addr, other.hidden = meta, addr, !valid
	delete(m.removed, addr)
	m.publish()
}

// remove removes a node that left or died. Unless the node was draining, it may be on the other side of a network
// partition, so its address is remembered for the join loop.
func (m *members) remove(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	other, ok := m.byName[node]
	if !ok {
		return
	}
	delete(m.byName, node)
	if id := nodeID(node); m.byID[id] == other {
		delete(m.byID, id)
	}
	if other.State != region.Draining {
		m.remember(other.addr)
	}
	m.publish()
}

// remember keeps an address for the join loop. If there are too many, the oldest address is forgotten.
func (m *members) remember(addr string) {
	now := m.now()
	m.removed[addr] = now
	oldest := addr
	for a, at := range m.removed {
		if now.Sub(at) > rememberFor {
			delete(m.removed, a)
		} else if at.Before(m.removed[oldest]) {
			oldest = a
		}
	}
	if len(m.removed) > rememberNodes {
		delete(m.removed, oldest)
	}
}

// remembered returns the gossip addresses of removed nodes at which no member is now.
func (m *members) remembered() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var addrs []string
	for a, at := range m.removed {
		if m.now().Sub(at) <= rememberFor {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// addrs returns the gossip addresses of the other members.
func (m *members) addrs() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	addrs := make(map[string]bool, len(m.byName))
	for _, other := range m.byName {
		addrs[other.addr] = true
	}
	return addrs
}

// others returns the number of members without this node.
func (m *members) others() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.byName)
}

// setLoad stores another node's load and reports whether it is newer than the known one.
func (m *members) setLoad(l *gossippb.Load) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	other, ok := m.byID[l.GetNode()]
	if !ok || l.GetSeq() <= other.loadSeq {
		return false
	}
	other.loadSeq = l.GetSeq()
	if load := decodeLoad(l); other.Load != load {
		other.Load = load
		m.markDirty()
	}
	return true
}

// setSelfKeys stores this node's own keys and returns their message.
func (m *members) setSelfKeys(keys []Fingerprint) *gossippb.Keys {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.self.keysSeq++
	m.self.keys = keys
	return m.self.encodeKeys()
}

// setKeys stores another node's keys and reports whether they are newer than the known ones. The caller has checked k.
func (m *members) setKeys(k *gossippb.Keys) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	other, ok := m.byID[k.GetNode()]
	if !ok || k.GetSeq() <= other.keysSeq {
		return false
	}
	other.keysSeq = k.GetSeq()
	other.keys = nil
	for _, f := range k.GetFingerprints() {
		other.keys = append(other.keys, Fingerprint(f))
	}
	return true
}

// keyrings returns the keys of every node that a view shows, this node's first.
func (m *members) keyrings() []Keyring {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Keyring, 0, len(m.byName)+1)
	for _, other := range m.byName {
		if !other.hidden {
			list = append(list, other.keyring())
		}
	}
	slices.SortFunc(list, func(a, b Keyring) int { return strings.Compare(a.Node, b.Node) })
	return slices.Insert(list, 0, m.self.keyring())
}

// pushPull returns the newest load and keys of every node, this node's first.
func (m *members) pushPull() (loads []*gossippb.Load, keys []*gossippb.Keys) {
	m.mu.Lock()
	defer m.mu.Unlock()
	add := func(node *member) {
		if node.loadSeq > 0 {
			loads = append(loads, node.encodeLoad())
		}
		if node.keysSeq > 0 {
			keys = append(keys, node.encodeKeys())
		}
	}
	add(&m.self)
	for _, other := range m.byName {
		add(other)
	}
	return loads, keys
}

func (m *member) encodeLoad() *gossippb.Load { return encodeLoad(nodeID(m.Node), m.loadSeq, m.Load) }

func (m *member) encodeKeys() *gossippb.Keys {
	k := &gossippb.Keys{Node: nodeID(m.Node), Seq: m.keysSeq}
	for _, f := range m.keys {
		k.Fingerprints = append(k.Fingerprints, f[:])
	}
	return k
}

func (m *member) keyring() Keyring {
	return Keyring{Node: m.Node, Region: m.Region, Known: m.keysSeq > 0, Keys: slices.Clone(m.keys)}
}
