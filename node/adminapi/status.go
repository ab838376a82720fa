package adminapi

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Status is the cluster as one node sees it.
type Status struct {
	Node   string `json:"node"`
	Region string `json:"region"`
	// TimeZones is the release of the IANA time zone table in the node's binary, such as 2026a.
	TimeZones string    `json:"time_zones"`
	Regions   []Region  `json:"regions"`
	Nodes     []Member  `json:"nodes"`
	Homes     []Home    `json:"homes"`
	Admission Admission `json:"admission"`
	// Companies are the first companies that an operator has suspended or limited.
	Companies []Company `json:"companies,omitempty"`
	// CompaniesUnknown says why Companies is empty when the database did not answer.
	CompaniesUnknown string `json:"companies_unknown,omitempty"`
}

// Company is a company that an operator has suspended or limited.
type Company struct {
	ID        string     `json:"id"`
	Suspended bool       `json:"suspended"`
	Until     *time.Time `json:"until,omitempty"`
	RateLimit int        `json:"rate_limit,omitempty"` // punches a second that each node takes
	By        string     `json:"by"`
}

// Admission is what the answering node lets in.
type Admission struct {
	Limit        float64 `json:"limit,omitzero"`  // requests a second; 0 when the node is not overloaded
	Wait         float64 `json:"wait"`            // seconds that requests wait for a processor
	Refused      float64 `json:"refused"`         // share of the requests of the last moments, 0 to 1
	Largest      string  `json:"largest_company"` // the company that sends most
	LargestShare float64 `json:"largest_share"`   // of the requests of the last second, 0 to 1
}

func (a *Admission) String() string {
	text := "everything is admitted"
	if a.Limit > 0 {
		text = fmt.Sprintf("overloaded: %.0f requests/s are admitted and %.0f%% are refused", a.Limit, 100*a.Refused)
	}
	if a.Largest != "" {
		text += fmt.Sprintf("; %s sends %.0f%%", a.Largest, 100*a.LargestShare)
	}
	return text
}

// Region is a region that the database has, or that has nodes.
type Region struct {
	Name      string     `json:"name"`
	Ready     int        `json:"ready"` // nodes
	Nodes     int        `json:"nodes"`
	Evacuated bool       `json:"evacuated"`
	Until     *time.Time `json:"until,omitempty"`
	Version   int64      `json:"version,omitempty"` // of its evacuation
	// Level is the level of degradation that an operator has set, and LevelUntil its end.
	Level      uint8      `json:"level"`
	LevelUntil *time.Time `json:"level_until,omitempty"`
}

// Member is a node.
type Member struct {
	Name         string `json:"name"`
	Region       string `json:"region"`
	State        string `json:"state"`
	InFlight     uint32 `json:"in_flight"`
	Capacity     uint32 `json:"capacity"`
	Weight       uint16 `json:"weight"`
	DatabaseAway bool   `json:"database_away"`
	CircuitOpen  bool   `json:"circuit_open"` // the answering node does not call this member
	Level        uint8  `json:"level"`        // of degradation: the operator's, or a higher one of the node itself
	PublicURL    string `json:"public_url,omitempty"`
}

// Home is a home region whose punches the node has forwarded or written.
type Home struct {
	Region      string `json:"region"`
	Way         string `json:"way"` // database or peer
	Waiting     int    `json:"waiting"`
	CircuitOpen bool   `json:"circuit_open"` // the node rejects punches of this home at once
}

// WriteTable writes the status for a person.
func (s *Status) WriteTable(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	line := func(columns ...any) {
		text := make([]string, len(columns))
		for i, c := range columns {
			text[i] = fmt.Sprint(c)
		}
		_, _ = fmt.Fprintln(w, strings.Join(text, "\t")) // Flush returns the error
	}
	line("as seen by", s.Node)
	line("time zones", s.TimeZones)
	line("admission", s.Admission.String())
	line()
	line("REGION", "READY", "EVACUATED", "LEVEL")
	for _, r := range s.Regions {
		level := fmt.Sprint(r.Level)
		if r.LevelUntil != nil {
			level += " until " + r.LevelUntil.UTC().Format(time.RFC3339)
		}
		line(r.Name, fmt.Sprintf("%d/%d", r.Ready, r.Nodes), yesUntil(r.Evacuated, r.Until), level)
	}
	line()
	line("NODE", "REGION", "STATE", "LOAD", "WEIGHT", "CIRCUIT", "DATABASE", "LEVEL")
	for _, m := range s.Nodes {
		line(m.Name, m.Region, m.State, fmt.Sprintf("%d/%d", m.InFlight, m.Capacity), m.Weight,
			openOr(m.CircuitOpen, "closed"), awayOr(m.DatabaseAway), m.Level)
	}
	line()
	line("HOME", "WAY", "WAITING", "CIRCUIT")
	for _, h := range s.Homes {
		line(h.Region, h.Way, h.Waiting, openOr(h.CircuitOpen, "closed"))
	}
	if s.CompaniesUnknown != "" {
		line()
		line("COMPANIES", "unknown: "+s.CompaniesUnknown)
	}
	if len(s.Companies) > 0 {
		line()
		line("COMPANY", "SUSPENDED", "LIMIT", "BY")
		for _, c := range s.Companies {
			line(c.ID, yesUntil(c.Suspended, c.Until), limitOf(c.RateLimit), c.By)
		}
	}
	return w.Flush()
}

func yesUntil(yes bool, until *time.Time) string {
	switch {
	case !yes:
		return "no"
	case until == nil:
		return "yes"
	default:
		return "until " + until.UTC().Format(time.RFC3339)
	}
}

func limitOf(perSecond int) string {
	if perSecond == 0 {
		return "none"
	}
	return fmt.Sprintf("%d/s for each node", perSecond)
}

func openOr(open bool, otherwise string) string {
	if open {
		return "open"
	}
	return otherwise
}

func awayOr(away bool) string {
	if away {
		return "away"
	}
	return "answers"
}
