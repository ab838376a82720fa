package gossip

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/punchclock/punchclock/region"
)

// roster is this node's own list of members, from which views are made. It
// takes no lock of memberlist's and may be used under any.
type roster struct {
	cluster *region.Cluster
	now     func() time.Time
	dirty   chan struct{} // holds a token while loads wait to be shown

	mu      sync.Mutex // guards all below, and the order of views on the board
	self    region.Member
	selfSeq uint64
	keys    keysNews         // this node's own; its seq is 0 until it has said
	members map[string]*peer // by node, without this one
	byID    map[uint64]*peer
	lost    map[string]time.Time // gossip address to when it was lost
}

// peer is another node.
type peer struct {
	region.Member
	addr   string   // where it gossips, host:port
	seq    uint64   // of the newest load
	keys   keysNews // the newest; its seq is 0 until it has said
	hidden bool     // its metadata cannot be read
}

func newRoster(self region.Member, cluster *region.Cluster) *roster {
	r := &roster{
		cluster: cluster, now: time.Now, dirty: make(chan struct{}, 1),
		members: make(map[string]*peer), byID: make(map[uint64]*peer), lost: make(map[string]time.Time),
	}
	self.StateAt = r.now()
	r.self = self
	r.show()
	return r
}

// show puts a new view on the board. The caller holds mu, or is alone.
func (r *roster) show() {
	members := make([]region.Member, 0, len(r.members)+1)
	members = append(members, r.self)
	for _, p := range r.members {
		if !p.hidden {
			members = append(members, p.Member)
		}
	}
	r.cluster.Set(region.NewView(r.self.Node, members))
}

// showLoads shows what setLoad and setSelfLoad brought.
func (r *roster) showLoads() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.show()
}

func (r *roster) loadsWait() {
	select {
	case r.dirty <- struct{}{}:
	default:
	}
}

// setState changes this node's own state.
func (r *roster) setState(s region.State) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.self.State == s {
		return false
	}
	r.self.State, r.self.StateAt = s, r.now()
	r.show()
	return true
}

// meta returns this node's metadata as it is now.
func (r *roster) meta() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return encodeMeta(r.self)
}

// setSelfLoad takes this node's own load and returns the news of it.
func (r *roster) setSelfLoad(load region.Load) loadNews {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.selfSeq++
	if r.self.Load != load {
		r.self.Load = load
		r.loadsWait()
	}
	return r.selfNews()
}

func (r *roster) selfNews() loadNews {
	return loadNews{node: nodeID(r.self.Node), seq: r.selfSeq, load: r.self.Load}
}

// put adds or updates another node. m needs no Node, Load or StateAt. A node
// whose metadata could not be read is kept, but not shown: nobody would know
// what to ask it.
func (r *roster) put(node, addr string, m region.Member, readable bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if node == r.self.Node {
		return
	}
	p, known := r.members[node]
	if !known {
		p = &peer{}
		r.members[node], r.byID[nodeID(node)] = p, p
	}
	m.Node, m.Load, m.StateAt = node, p.Load, p.StateAt
	if !known || p.State != m.State {
		m.StateAt = r.now()
	}
	p.Member, p.addr, p.hidden = m, addr, !readable
	delete(r.lost, addr)
	r.show()
}

// drop removes a node that left or died. Unless it had said that it was going,
// it may be on the other side of a partition, and its address is remembered.
func (r *roster) drop(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.members[node]
	if !ok {
		return
	}
	delete(r.members, node)
	if id := nodeID(node); r.byID[id] == p {
		delete(r.byID, id)
	}
	if p.State != region.Draining {
		r.remember(p.addr)
	}
	r.show()
}

// remember keeps an address for the join loop, in the place of the one that
// has been lost for longest when there are too many.
func (r *roster) remember(addr string) {
	now := r.now()
	r.lost[addr] = now
	oldest := addr
	for a, at := range r.lost {
		if now.Sub(at) > rememberFor {
			delete(r.lost, a)
		} else if at.Before(r.lost[oldest]) {
			oldest = a
		}
	}
	if len(r.lost) > rememberNodes {
		delete(r.lost, oldest)
	}
}

// remembered returns where lost nodes were that nobody has taken the place of.
func (r *roster) remembered() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var addrs []string
	for a, at := range r.lost {
		if r.now().Sub(at) <= rememberFor {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// addrs returns where the members gossip.
func (r *roster) addrs() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	addrs := make(map[string]bool, len(r.members))
	for _, p := range r.members {
		addrs[p.addr] = true
	}
	return addrs
}

// others returns how many members there are beside this node.
func (r *roster) others() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.members)
}

// setLoad takes a member's load and reports whether it is news.
func (r *roster) setLoad(n loadNews) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.byID[n.node]
	if !ok || n.seq <= p.seq {
		return false
	}
	p.seq = n.seq
	if p.Load != n.load {
		p.Load = n.load
		r.loadsWait()
	}
	return true
}

// setSelfKeys takes this node's own keys and returns the news of them.
func (r *roster) setSelfKeys(keys []Fingerprint) keysNews {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ring []byte
	for _, f := range keys {
		ring = append(ring, f[:]...)
	}
	r.keys = keysNews{node: nodeID(r.self.Node), seq: r.keys.seq + 1, ring: string(ring)}
	return r.keys
}

// setKeys takes a member's keys unless they are old.
func (r *roster) setKeys(n keysNews) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.byID[n.node]; ok && n.seq > p.keys.seq {
		p.keys = n
	}
}

// keyrings returns what is known of every node's keys, this one's first.
func (r *roster) keyrings() []Keyring {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Keyring, 0, len(r.members)+1)
	for _, p := range r.members {
		if !p.hidden {
			list = append(list, keyringOf(p.Member, p.keys))
		}
	}
	slices.SortFunc(list, func(a, b Keyring) int { return strings.Compare(a.Node, b.Node) })
	return slices.Insert(list, 0, keyringOf(r.self, r.keys))
}

func keyringOf(m region.Member, n keysNews) Keyring {
	k := Keyring{Node: m.Node, Region: m.Region, Known: n.seq > 0}
	for f := range slices.Chunk([]byte(n.ring), fingerprintSize) {
		k.Keys = append(k.Keys, Fingerprint(f))
	}
	return k
}

// state returns the newest load and keys of every node, this one's first.
func (r *roster) state() state {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := state{loads: make([]loadNews, 0, len(r.members)+1), keys: make([]keysNews, 0, len(r.members)+1)}
	if r.selfSeq > 0 {
		s.loads = append(s.loads, r.selfNews())
	}
	if r.keys.seq > 0 {
		s.keys = append(s.keys, r.keys)
	}
	for node, p := range r.members {
		if p.seq > 0 {
			s.loads = append(s.loads, loadNews{node: nodeID(node), seq: p.seq, load: p.Load})
		}
		if p.keys.seq > 0 {
			s.keys = append(s.keys, p.keys)
		}
	}
	return s
}
