package gossip

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/region"
)

func TestOnlyNewerVersionsAreNews(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newNewsroom(func() int { return 3 })
		newest := map[string]int64{}
		for range rapid.IntRange(1, 60).Draw(t, "messages") {
			n := companyNews{
				company: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "company"),
				version: rapid.Int64Range(1, 9).Draw(t, "version"),
			}
			isNew, dropped := r.publish(n)
			if want := n.version > newest[n.company]; isNew != want || dropped != 0 {
				t.Fatalf("%+v after version %d: new %v, %d dropped; want %v and none", n, newest[n.company], isNew, dropped, want)
			}
			newest[n.company] = max(newest[n.company], n.version)
		}
		sent := map[string]int64{}
		for _, b := range r.outbox.take(0, 1<<20) {
			m, err := decodeMessage(b)
			if err != nil {
				t.Fatal(err)
			}
			if _, twice := sent[m.company.company]; twice {
				t.Fatalf("two versions of %s wait", m.company.company)
			}
			sent[m.company.company] = m.company.version
		}
		if fmt.Sprint(sent) != fmt.Sprint(newest) {
			t.Fatalf("what waits is %v, want the newest %v", sent, newest)
		}
	})
}

func TestTheQueueOfChangesIsBounded(t *testing.T) {
	r := newNewsroom(func() int { return 3 })
	r.outbox.bound = 10
	total := 0
	for i := range 100 {
		isNew, dropped := r.publish(companyNews{company: fmt.Sprint("c", i), version: 1})
		if !isNew {
			t.Fatalf("change %d is not new", i)
		}
		total += dropped
	}
	if q := r.outbox.waiting(); q != 10 || total != 90 {
		t.Errorf("%d changes wait and %d were dropped, want 10 and 90", q, total)
	}
}

func TestTheMemoryOfChangesIsBounded(t *testing.T) {
	r := newNewsroom(func() int { return 3 })
	r.perMap = 10
	for i := range 1000 {
		r.publish(companyNews{company: fmt.Sprint("c", i), version: 1})
		if n := len(r.seen) + len(r.older); n > 20 {
			t.Fatalf("%d companies are remembered, want at most 20", n)
		}
		if isNew, _ := r.publish(companyNews{company: fmt.Sprint("c", max(i-9, 0)), version: 1}); isNew {
			t.Fatalf("the change of ten before change %d is forgotten", i)
		}
	}
}

// Nodes that forget at once would pass changes round for ever.
func TestEveryChangeComesToRest(t *testing.T) {
	const nodes = 5
	var rooms []*newsroom
	for range nodes {
		r := newNewsroom(func() int { return nodes })
		r.perMap = 1
		rooms = append(rooms, r)
	}
	for i := range 20 {
		rooms[0].publish(companyNews{company: fmt.Sprint("c", i), version: 1})
	}
	deepest := uint8(0)
	for round := 0; ; round++ {
		if round > 100_000 {
			t.Fatal("changes still go round")
		}
		waiting := 0
		for i, r := range rooms {
			for _, b := range r.outbox.take(0, 100) {
				m, err := decodeMessage(b)
				if err != nil {
					t.Fatal(err)
				}
				m.company.hops++
				deepest = max(deepest, m.company.hops)
				rooms[(i+1+round%(nodes-1))%nodes].publish(m.company)
			}
			waiting += r.outbox.waiting()
		}
		if waiting == 0 {
			break
		}
	}
	if deepest != maxHops {
		t.Errorf("changes went %d hops, want them to be stopped at %d", deepest, maxHops)
	}
}

func TestLoadsAndChangesShareThePacket(t *testing.T) {
	n := mustNew(t, "us-east", "a")
	d := delegate{n.Gossip}
	fill := func(loads, changes int) {
		for i := range loads {
			n.sendLoad(loadNews{node: uint64(i + 1), seq: 1, load: region.Load{InFlight: 1 << 30}})
		}
		for i := range changes {
			n.BroadcastCompany(fmt.Sprint("company-with-a-long-name-", i), int64(1+n.news.outbox.waiting()))
		}
	}
	count := func(limit int) (loads, changes, size int) {
		for _, b := range d.GetBroadcasts(3, limit) {
			size += len(b) + 3
			switch m, err := decodeMessage(b); {
			case err != nil:
				t.Fatal(err)
			case m.kind == kindLoad:
				loads++
			default:
				changes++
			}
		}
		return loads, changes, size
	}
	fill(100, 0)
	if loads, _, size := count(1000); size > 1000 || size < 950 {
		t.Errorf("%d loads alone fill %d of 1000 bytes", loads, size)
	}
	fill(100, 100)
	loads, changes, size := count(1000)
	if size > 1000 || size < 950 || loads < 15 || changes < 10 {
		t.Errorf("%d loads and %d changes fill %d of 1000 bytes, want about half of each", loads, changes, size)
	}
	if b := d.GetBroadcasts(3, 5); len(b) != 0 {
		t.Errorf("%d messages in 5 bytes, want none", len(b))
	}
}

func TestSwitchIsReadAsWritten(t *testing.T) {
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	e := region.Evacuation{Region: "eu-west", On: true, Version: 3, Until: until}
	m, err := decodeMessage(switchNews{Evacuation: e, hops: 2}.encode())
	if err != nil || m.kind != kindSwitch || m.switched.hops != 2 || m.switched.Evacuation != e {
		t.Fatalf("sent %+v, read %+v, %v", e, m.switched, err)
	}
	for _, bad := range [][]byte{{kindSwitch}, {kindSwitch, 0, 1}, {kindSwitch, 0, 1, 1, 0, 2, 'E', 'U'}, {kindSwitch, 0, 1, 0, 0, 2, 'e', 'u'}} {
		if _, err := decodeMessage(bad); !errors.Is(err, errMessage) {
			t.Errorf("%v was read: %v", bad, err)
		}
	}
}
