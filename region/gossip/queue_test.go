package gossip

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/region/gossip/gossippb"
)

func threeNodes() int { return 3 }

// TestQueueKeepsTheLastMessageOfEachName puts messages of few names. The queue must keep the last message of each name,
// also if it was the only one in the queue.
func TestQueueKeepsTheLastMessageOfEachName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newBroadcastQueue(threeNodes, retransmitMult, func(n int) { t.Fatalf("%d messages were dropped", n) })
		want := map[string]string{}
		for i := range rapid.IntRange(1, 60).Draw(t, "messages") {
			name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
			want[name] = fmt.Sprintf("%s%02d", name, i)
			q.put(name, []byte(want[name]))
		}
		got := map[string]string{}
		for _, b := range q.take(0, 1<<20) {
			if _, twice := got[string(b[:1])]; twice {
				t.Fatalf("two messages of %c wait", b[0])
			}
			got[string(b[:1])] = string(b)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("the messages %v wait, want %v", got, want)
		}
	})
}

func TestQueueHasALimit(t *testing.T) {
	dropped := 0
	q := newBroadcastQueue(threeNodes, retransmitMult, func(n int) { dropped += n })
	q.limit = 10
	for i := range 100 {
		q.put(fmt.Sprint("n", i), []byte("x"))
	}
	if n := q.waiting(); n != 10 || dropped != 90 {
		t.Errorf("%d messages wait and %d were dropped, want 10 and 90", n, dropped)
	}
}

// TestDroppedMessagesAreCountedByKind fills each queue of a node and looks for the drops under the kind's own name.
func TestDroppedMessagesAreCountedByKind(t *testing.T) {
	reader, meter := mustMeter(t)
	n := mustNew(t, "us-east", "a", withMeter(meter))
	dropped := func() map[string]int64 { return counts(t, reader, "punchclock.gossip.dropped", "kind") }
	if got := dropped(); len(got) != 3 || got[droppedLoad]+got[droppedSwitch]+got[droppedKeys] != 0 {
		t.Errorf("at the start the counters are %v, want 0 for each kind", got)
	}
	for i := range uint64(maxQueued + 1) {
		n.broadcastLoad(&gossippb.Load{Node: i, Seq: 1})
	}
	for i := range uint64(maxQueued + 2) {
		n.broadcastKeys(&gossippb.Keys{Node: i, Seq: 1})
	}
	for i := range maxQueued + 3 {
		n.receiveSwitch(region.Switch{Region: region.Name(fmt.Sprint("r", i)), Version: 1})
	}
	if got := dropped(); got[droppedLoad] != 1 || got[droppedKeys] != 2 || got[droppedSwitch] != 3 {
		t.Errorf("the counters are %v, want 1 load, 2 keys and 3 evacuations", got)
	}
}

// TestQueueHoldsTheNewestSwitch merges and sends switches of one region from many goroutines. The message that
// stays in the queue must be the newest, or the other nodes miss it.
func TestQueueHoldsTheNewestSwitch(t *testing.T) {
	for range 50 {
		n := mustNew(t, "us-east", "a")
		var senders sync.WaitGroup
		for version := range int64(8) {
			senders.Go(func() {
				n.receiveSwitch(region.Switch{Region: "eu-west", Level: 1, Version: version + 1})
			})
		}
		senders.Wait()
		waiting := n.switches.take(0, packetSize)
		if want := switchMessage(n.known.All()[0]); len(waiting) != 1 || !slices.Equal(waiting[0], want) {
			t.Fatalf("%x waits, want %x", waiting, want)
		}
	}
}

// TestMessagesShareThePacket fills packets from full queues.
func TestMessagesShareThePacket(t *testing.T) {
	n := mustNew(t, "us-east", "a")
	fill := func(loads, others int) {
		for i := range uint64(loads) {
			n.broadcastLoad(&gossippb.Load{Node: i + 1, Seq: 1, InFlight: 1 << 30})
		}
		for i := range others {
			n.receiveSwitch(region.Switch{Region: region.Name("r" + strings.Repeat("x", 20) + fmt.Sprint(i)), Version: int64(1 + len(n.known.All()))})
			n.broadcastKeys(&gossippb.Keys{Node: uint64(i + 1), Seq: 1})
		}
	}
	count := func(limit int) (loads, evacuations, keys, size int) {
		for _, b := range (delegate{n.Gossip}).GetBroadcasts(3, limit) {
			size += len(b) + 3
			m, err := decodeMessage(b)
			if err != nil {
				t.Fatal(err)
			}
			switch m.GetContent().(type) {
			case *gossippb.Message_Load:
				loads++
			case *gossippb.Message_Evacuation:
				evacuations++
			default:
				keys++
			}
		}
		return loads, evacuations, keys, size
	}
	fill(100, 0)
	if loads, _, _, size := count(1000); size > 1000 || size < 950 {
		t.Errorf("%d loads alone fill %d of 1000 bytes", loads, size)
	}
	fill(100, 5)
	loads, evacuations, keys, size := count(1000)
	if size > 1000 || loads < 15 || evacuations != 5 || keys != 5 {
		t.Errorf("%d loads, %d evacuations and %d keys fill %d of 1000 bytes, want half for loads, and all others", loads, evacuations, keys, size)
	}
	if b := (delegate{n.Gossip}).GetBroadcasts(3, 5); len(b) != 0 {
		t.Errorf("%d messages in 5 bytes, want none", len(b))
	}
}
