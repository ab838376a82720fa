package region

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var testRegions = []Name{"ap-south", "eu-west", "us-east"}

// genMembers draws members with distinct names, as in a real cluster.
func genMembers(t *rapid.T) []Member {
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Member {
		return Member{
			Node:     rapid.StringMatching(`[a-z]{1,6}`).Draw(t, "node"),
			Region:   rapid.SampledFrom(testRegions).Draw(t, "region"),
			State:    rapid.SampledFrom([]State{Warming, Ready, Draining}).Draw(t, "state"),
			PeerAddr: rapid.SampledFrom([]string{"", "127.0.0.1:1", "127.0.0.1:2"}).Draw(t, "peer"),
			Weight:   rapid.Uint16().Draw(t, "weight"),
			StateAt:  testNow.Add(-time.Duration(rapid.IntRange(-5, 60).Draw(t, "age")) * time.Second),
			Load:     Load{InFlight: rapid.Uint32().Draw(t, "in flight"), Capacity: rapid.Uint32().Draw(t, "capacity")},
		}
	}), 0, 40, func(m Member) string { return m.Node }).Draw(t, "members")
}

func TestViewSortsACopy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		given := genMembers(t)
		want := slices.Clone(given)
		v := NewView("self", given)
		for i := range given {
			given[i] = Member{Node: "overwritten", Region: "nowhere"}
		}
		byNode := func(a, b Member) int { return strings.Compare(a.Node, b.Node) }
		slices.SortFunc(want, byNode)
		if got := v.Members(); len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("members are\n%v\nwant the given members, sorted\n%v", got, want)
		}
		count := 0
		for _, r := range v.Regions() {
			in := v.In(r)
			count += len(in)
			if len(in) == 0 || !slices.IsSortedFunc(in, byNode) {
				t.Fatalf("In(%q) = %v, want at least one member, sorted", r, in)
			}
			for _, m := range in {
				if m.Region != r {
					t.Fatalf("In(%q) has %v", r, m)
				}
			}
		}
		if count != len(want) {
			t.Fatalf("the regions together have %d members, want %d", count, len(want))
		}
		if r := v.Regions(); !slices.IsSorted(r) {
			t.Fatalf("regions %v are not sorted", r)
		}
	})
}

func TestZeroClusterIsEmpty(t *testing.T) {
	var c Cluster
	v := c.Snapshot()
	if v == nil || len(v.Members()) != 0 || len(v.Regions()) != 0 || len(v.In("us-east")) != 0 {
		t.Fatalf("view of the zero cluster is %+v, want an empty view", v)
	}
}

// TestClusterSwapsWholeViews reads while another goroutine writes. A reader must never see a part of a view.
func TestClusterSwapsWholeViews(t *testing.T) {
	var c Cluster
	c.Set(NewView("0", nil))
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				v := c.Snapshot()
				if len(v.Members()) != len(v.In("us-east")) {
					t.Errorf("%d members, but %d in their only region", len(v.Members()), len(v.In("us-east")))
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	var members []Member
	for i := range 200 {
		members = append(members, Member{Node: strings.Repeat("n", i+1), Region: "us-east"})
		c.Set(NewView("0", members))
	}
	close(done)
	wg.Wait()
}

func TestStateNames(t *testing.T) {
	for s, want := range map[State]string{Warming: "warming", Ready: "ready", Draining: "draining", 99: "warming"} {
		if got := s.String(); got != want {
			t.Errorf("State(%d) is called %q, want %q", s, got, want)
		}
	}
}
