package drill

import (
	"fmt"
	"html"
	"math"
	"strings"
	"time"
)

// The geometry of the plot, in its own units. The page scales it.
const (
	plotWidth  = 960.0
	plotLeft   = 60.0 // room for the numbers
	plotTop    = 40.0 // room for the legend and the names of the moments
	panelGap   = 34.0
	panelHigh  = 130.0
	plotBottom = 24.0
)

// colours differ also for people with a colour vision deficiency.
var colours = []string{"#0b6bcb", "#d1660a", "#6b3fa0", "#1b8a5a", "#b3243a", "#5d6673"}

// panel is one chart. All panels show the same seconds.
type panel struct {
	title string
	// value returns the value of a home's second, or NaN without a value.
	value func(HomeSecond) float64
	// scale maps a value to 0 (bottom) … 1 (top).
	scale func(float64) float64
	ticks []tick
}

type tick struct {
	at   float64
	text string
}

// plot draws rate, failures and latency of each home over time, with the moments of break and heal.
func plot(o *Outcome) string {
	var s strings.Builder
	panels := []panel{ratePanel(o), failurePanel(o), latencyPanel()}
	high := plotTop + float64(len(panels))*(panelHigh+panelGap) + plotBottom
	out(&s, `<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="rate, failures and latency of each home over time">`, plotWidth, high)
	legend(&s, o)
	for i, p := range panels {
		top := plotTop + float64(i)*(panelHigh+panelGap) + panelGap/2
		frame(&s, o, p, top)
		for home := range o.homes() {
			curve(&s, o, p, top, home)
		}
	}
	moments(&s, o, high)
	s.WriteString("</svg>")
	return s.String()
}

func out(s *strings.Builder, format string, args ...any) {
	_, _ = fmt.Fprintf(s, format+"\n", args...) // a Builder never fails
}

// homes returns the homes in the order of the timeline.
func (o *Outcome) homes() (names []string) {
	if len(o.Seconds) > 0 {
		for _, h := range o.Seconds[0].Homes {
			names = append(names, h.Home)
		}
	}
	return names
}

func ratePanel(o *Outcome) panel {
	value := func(h HomeSecond) float64 { return float64(h.Acknowledged) }
	return linear("acknowledged per second", value, o)
}

func failurePanel(o *Outcome) panel {
	value := func(h HomeSecond) float64 { return float64(h.Failed + h.Retries) }
	return linear("retried or failed per second", value, o)
}

// linear returns a panel from zero to the largest value.
func linear(title string, value func(HomeSecond) float64, o *Outcome) panel {
	top := 1.0
	for _, second := range o.Seconds {
		for _, h := range second.Homes {
			top = max(top, value(h))
		}
	}
	return panel{
		title: title, value: value, scale: func(v float64) float64 { return v / top },
		ticks: []tick{{0, "0"}, {top / 2, fmt.Sprintf("%.3g", top/2)}, {top, fmt.Sprintf("%.3g", top)}},
	}
}

// latencyPanel returns a logarithmic panel from a millisecond to a minute.
func latencyPanel() panel {
	const low, high = float64(time.Millisecond), float64(time.Minute)
	return panel{
		title: "p99 of the punches due in a second",
		value: func(h HomeSecond) float64 {
			if h.P99 == 0 {
				return math.NaN()
			}
			return float64(h.P99)
		},
		scale: func(v float64) float64 { return math.Log(min(max(v, low), high)/low) / math.Log(high/low) },
		ticks: []tick{
			{low, "1 ms"}, {10 * low, "10 ms"}, {100 * low, "0.1 s"}, {1000 * low, "1 s"}, {10_000 * low, "10 s"},
		},
	}
}

// x returns the place of a second.
func (o *Outcome) x(second float64) float64 {
	return plotLeft + second/float64(max(1, len(o.Seconds)))*(plotWidth-plotLeft-10)
}

func legend(s *strings.Builder, o *Outcome) {
	for i, home := range o.homes() {
		x := plotLeft + float64(i)*130
		out(s, `<rect x="%.0f" y="6" width="12" height="12" fill="%s"/><text x="%.0f" y="16">%s</text>`, x, colours[i%len(colours)], x+17, html.EscapeString(home))
	}
}

func frame(s *strings.Builder, o *Outcome, p panel, top float64) {
	out(s, `<text x="%.0f" y="%.0f">%s</text>`, plotLeft, top-5, p.title)
	for _, t := range p.ticks {
		y := top + panelHigh*(1-p.scale(t.at))
		out(s, `<line x1="%.0f" y1="%.1f" x2="%.0f" y2="%.1f" stroke="#e2e7ee"/><text x="%.0f" y="%.1f" text-anchor="end">%s</text>`,
			plotLeft, y, plotWidth-10, y, plotLeft-6, y+4, t.text)
	}
	step := 10
	for len(o.Seconds)/step > 12 {
		step *= 2
	}
	for second := 0; second <= len(o.Seconds); second += step {
		out(s, `<text x="%.1f" y="%.0f" text-anchor="middle">%d s</text>`, o.x(float64(second)), top+panelHigh+14, second)
	}
}

// curve draws the line of a home. Seconds without a value leave a gap.
func curve(s *strings.Builder, o *Outcome, p panel, top float64, home int) {
	var path strings.Builder
	pen := "M"
	for _, second := range o.Seconds[:max(1, len(o.Seconds)-1)] { // the load ends within the last second, which would look like a fall
		v := p.value(second.Homes[home])
		if math.IsNaN(v) {
			pen = "M"
			continue
		}
		_, _ = fmt.Fprintf(&path, "%s%.1f %.1f", pen, o.x(float64(second.At)+0.5), top+panelHigh*(1-p.scale(v)))
		pen = "L"
	}
	out(s, `<path d="%s" fill="none" stroke="%s" stroke-width="1.6"/>`, path.String(), colours[home%len(colours)])
}

// moments draws the moments through all panels.
func moments(s *strings.Builder, o *Outcome, high float64) {
	for _, m := range []struct {
		name   string
		at     time.Time
		colour string
	}{
		{"break", o.Moments.Breaking, "#a3161f"}, {"heal", o.Moments.Healing, "#17693a"}, {"healed", o.Moments.Healed, "#17693a"},
	} {
		if m.at.IsZero() {
			continue
		}
		x := o.x(m.at.Sub(o.Moments.Begin).Seconds())
		out(s, `<line x1="%.1f" y1="30" x2="%.1f" y2="%.0f" stroke="%s" stroke-dasharray="4 3"/>`, x, x, high-plotBottom, m.colour)
		if m.name != "healed" || o.Moments.Healed.Sub(o.Moments.Healing) > 5*time.Second { // otherwise the two names would overlap
			out(s, `<text x="%.1f" y="28" text-anchor="middle" fill="%s">%s</text>`, x, m.colour, m.name)
		}
	}
}
