package attendance

import (
	"cmp"
	"slices"
)

// The lists of intervals below are disjoint and in order.

// total returns the seconds in all intervals.
func total(list []interval) (sum int64) {
	for _, i := range list {
		sum += i.length()
	}
	return sum
}

// overlap returns the seconds of the intervals that lie in the window.
func overlap(list []interval, window interval) (sum int64) {
	for _, i := range list {
		sum += clip(i, window).length()
	}
	return sum
}

// subtract returns the intervals without the gaps.
func subtract(list, gaps []interval) []interval {
	rest := make([]interval, 0, len(list)+len(gaps))
	at := 0
	for _, i := range list {
		for at < len(gaps) && gaps[at].end <= i.start {
			at++
		}
		for n := at; n < len(gaps) && gaps[n].start < i.end; n++ {
			if gaps[n].start > i.start {
				rest = append(rest, interval{i.start, gaps[n].start})
			}
			i.start = max(i.start, gaps[n].end)
		}
		if i.length() > 0 {
			rest = append(rest, i)
		}
	}
	return rest
}

// cutAfter returns the intervals without the seconds that follow the first after seconds.
func cutAfter(list []interval, after, seconds int64) []interval {
	rest := make([]interval, 0, len(list)+1)
	for _, i := range list {
		keep := min(after, i.length())
		cut := min(seconds, i.length()-keep)
		for _, piece := range [2]interval{{i.start, i.start + keep}, {i.start + keep + cut, i.end}} {
			if piece.length() > 0 {
				rest = append(rest, piece)
			}
		}
		after -= keep
		seconds -= cut
	}
	return rest
}

// span returns the indexes of the elements with a key. The list is in the order of its keys.
func span[E any, K cmp.Ordered](list []E, key K, of func(E) K) (from, to int) {
	from, _ = slices.BinarySearchFunc(list, key, func(e E, k K) int { return cmp.Compare(of(e), k) })
	to = from
	for to < len(list) && of(list[to]) == key {
		to++
	}
	return from, to
}
