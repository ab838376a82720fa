package bench

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// The geometry of the plots, in their own units. A page scales them.
const (
	plotWide, plotHigh    = 720.0, 300.0
	plotLeft, plotRight   = 56.0, 16.0
	plotTop, plotBottom   = 44.0, 46.0
	mostOffered, mostGood = 5.0, 1.2
)

// The colours differ also for people with a colour vision deficiency, and are readable on white and on black.
const (
	colourIdeal    = "#8a929c"
	colourFirst    = "#0b6bcb"
	colourSecond   = "#d1660a"
	colourThird    = "#b3261e"
	colourDuration = "#6b3fa0"
)

type svg struct{ strings.Builder }

func (s *svg) out(format string, args ...any) {
	_, _ = fmt.Fprintf(&s.Builder, format+"\n", args...) // a Builder never fails
}

func (s *svg) text(x, y float64, anchor, text string) {
	s.out(`<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x, y, anchor, html.EscapeString(text))
}

func (s *svg) begin(high float64, title string) {
	s.out(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`, plotWide, high, html.EscapeString(title))
	s.out(`<rect width="%.0f" height="%.0f" fill="#ffffff"/>`, plotWide, high)
	s.out(`<g font-family="sans-serif" font-size="12" fill="#30363d">`)
	s.out(`<text x="%.0f" y="18" font-size="14" font-weight="bold">%s</text>`, plotLeft, html.EscapeString(title))
}

func (s *svg) end() string {
	s.out("</g>\n</svg>")
	return s.String()
}

func plotX(offered float64) float64 {
	return plotLeft + min(offered, mostOffered)/mostOffered*(plotWide-plotLeft-plotRight)
}

func plotY(goodput float64) float64 {
	return plotHigh - plotBottom - min(max(goodput, 0), mostGood)/mostGood*(plotHigh-plotTop-plotBottom)
}

// overloadSeries are the curves of goodput. All callers give up after 2 s.
var overloadSeries = []struct{ part, series, name, colour string }{
	{"overload", "overload", "admission control", colourFirst},
	{"stampede", "stampede", "callers ignore Retry-After", colourSecond},
	{"overload", openDoorSeries, "no admission control", colourThird},
}

// plotOverload draws goodput over offered load, both relative to capacity. It is empty without such points.
func plotOverload(r *results) string {
	var s svg
	s.begin(plotHigh, fmt.Sprintf("Acknowledged punches over offered punches, %s", nameOf(r.Engine)))
	for good := 0.0; good <= mostGood; good += 0.2 {
		s.out(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#e2e7ee"/>`, plotLeft, plotY(good), plotWide-plotRight, plotY(good))
		s.text(plotLeft-8, plotY(good)+4, "end", fmt.Sprintf("%.1f", good))
	}
	for offered := 0.0; offered <= mostOffered; offered++ {
		s.text(plotX(offered), plotHigh-plotBottom+18, "middle", fmt.Sprintf("%.0f", offered))
	}
	s.text(plotX(mostOffered/2), plotHigh-10, "middle", "offered, relative to capacity")
	s.out(`<path d="M%.1f %.1fL%.1f %.1fL%.1f %.1f" fill="none" stroke="%s" stroke-dasharray="5 4"/>`,
		plotX(0), plotY(0), plotX(1), plotY(1), plotX(mostOffered), plotY(1), colourIdeal)
	x := plotLeft
	legend := func(name, colour string) {
		s.out(`<rect x="%.0f" y="27" width="12" height="4" fill="%s"/>`, x, colour)
		s.text(x+18, 33, "start", name)
		x += 34 + 6.6*float64(len(name)) // the mean width of a letter, and a gap
	}
	drawn := 0
	for _, one := range overloadSeries {
		var points []point
		for _, p := range r.Parts[one.part].Points {
			if p.Series == one.series {
				points = append(points, p)
			}
		}
		if len(points) == 0 {
			continue
		}
		legend(one.name, one.colour)
		s.curve(points, one.colour)
		drawn++
	}
	if drawn == 0 {
		return ""
	}
	legend("ideal", colourIdeal)
	return s.end()
}

// curve draws the points from the capacity on.
func (s *svg) curve(points []point, colour string) {
	points = slices.SortedFunc(slices.Values(points), func(a, b point) int { return cmp.Compare(a.Offered, b.Offered) })
	var path strings.Builder
	fmt.Fprintf(&path, "M%.1f %.1fL%.1f %.1f", plotX(0), plotY(0), plotX(1), plotY(1))
	for _, p := range points {
		fmt.Fprintf(&path, "L%.1f %.1f", plotX(p.Offered), plotY(p.Acknowledged))
	}
	s.out(`<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`, path.String(), colour)
	for _, p := range points {
		s.out(`<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"><title>%s</title></circle>`, plotX(p.Offered), plotY(p.Acknowledged), colour,
			html.EscapeString(fmt.Sprintf("%.1f × capacity offered: %.2f acknowledged, p99 %s", p.Offered, p.Acknowledged, brief(p.P99))))
	}
}

const (
	barHigh, barStep = 14.0, 40.0
	barLeft          = 210.0
	mostRatio        = 3.0
)

// plotQueues draws how a node compares with each queue: rate and time until rows, relative to the queue's. It is empty
// without such figures.
func plotQueues(r *results) string {
	var s svg
	drawn := 0
	high := plotTop + barStep*float64(len(designs)) + 30
	s.begin(high, fmt.Sprintf("A node relative to a queue before the database, %s", nameOf(r.Engine)))
	scale := func(v float64) float64 { return min(v, mostRatio) / mostRatio * (plotWide - barLeft - plotRight - 40) }
	for i := range designs {
		d := &designs[i]
		rate, measured := r.value("queues", "queue.rate."+d.key)
		rows, _ := r.value("queues", "queue.rows."+d.key)
		if !measured || math.IsNaN(rate) {
			continue
		}
		y := plotTop + barStep*float64(drawn)
		s.text(barLeft-8, y+19, "end", d.name)
		for j, bar := range []struct {
			value  float64
			colour string
		}{{rate, colourFirst}, {rows, colourDuration}} {
			top := y + float64(j)*(barHigh+2)
			s.out(`<rect x="%.0f" y="%.1f" width="%.1f" height="%.0f" fill="%s"/>`, barLeft, top, scale(bar.value), barHigh, bar.colour)
			s.text(barLeft+scale(bar.value)+5, top+11, "start", fmt.Sprintf("%.2f", bar.value))
		}
		drawn++
	}
	if drawn == 0 {
		return ""
	}
	one := barLeft + scale(1)
	s.out(`<line x1="%.1f" y1="%.0f" x2="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="4 3"/>`, one, plotTop-8, one, plotTop+barStep*float64(drawn), colourIdeal)
	s.out(`<rect x="%.0f" y="27" width="12" height="6" fill="%s"/>`, barLeft, colourFirst)
	s.text(barLeft+18, 34, "start", "punches/s (more is better)")
	s.out(`<rect x="%.0f" y="27" width="12" height="6" fill="%s"/>`, barLeft+200, colourDuration)
	s.text(barLeft+218, 34, "start", "time until all are rows (less is better)")
	return s.end()
}
