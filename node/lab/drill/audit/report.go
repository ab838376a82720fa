package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is a kind of difference between receipts and rows.
type Fault string

// The faults. An identity counts once for each of its faults.
const (
	Lost         Fault = "lost"         // acknowledged without a row
	Doubled      Fault = "doubled"      // more than one row, or receipts of more than one commit
	Altered      Fault = "altered"      // claim, receipt and row do not agree
	WrongRegion  Fault = "wrong_region" // a row outside its company's home
	Contradicted Fault = "contradicted" // refused for good, and stored
	Unknown      Fault = "unknown"      // a row of this run without a request
)

// faults lists all faults in the order of the report.
var faults = []Fault{Lost, Doubled, Altered, WrongRegion, Contradicted, Unknown}

// faultSet is a set of faults, one bit for each.
type faultSet uint8

func bit(f Fault) faultSet { return 1 << slices.Index(faults, f) }

func (s faultSet) has(f Fault) bool { return s&bit(f) != 0 }

func (s *faultSet) add(f Fault) { *s |= bit(f) }

// findingsPerFault is how many findings of a fault the report keeps. The counts are complete.
const findingsPerFault = 10

// Finding is one fault of one identity.
type Finding struct {
	Fault    Fault  `json:"fault"`
	Identity string `json:"identity"` // company/employee/id
	What     string `json:"what"`
}

// Report is the result of an audit. Sent is the sum of Acknowledged, Refused and Unresolved. All fields count
// identities, except Requests, Replayed, Rows and Ignored.
type Report struct {
	Requests     int `json:"requests"`     // intents in the ledger
	Sent         int `json:"sent"`         // identities in the ledger
	Acknowledged int `json:"acknowledged"` // with a receipt
	Refused      int `json:"refused"`      // with final errors only
	Unresolved   int `json:"unresolved"`   // neither; a device would keep the punch
	// Unreceipted punches were committed, but their receipt never arrived. This is no fault: the same id, sent again,
	// finds them.
	Unreceipted int `json:"unreceipted"`
	Replayed    int `json:"replayed"` // receipts of an earlier commit
	Crossed     int `json:"crossed"`  // acknowledged through a region that is not the home
	Rows        int `json:"rows"`     // rows of identities in the ledger
	Ignored     int `json:"ignored"`  // rows received before or after the run
	// Torn is set if the ledger's last line was cut off by the death of its writer. The request of that line was not
	// sent.
	Torn bool `json:"torn"`

	Lost         int `json:"lost"`
	Doubled      int `json:"doubled"`
	Altered      int `json:"altered"`
	WrongRegion  int `json:"wrong_region"`
	Contradicted int `json:"contradicted"`
	Unknown      int `json:"unknown"`

	Findings []Finding `json:"findings,omitempty"` // up to ten of each fault
}

// Faults returns all faults in the order of the report.
func Faults() []Fault { return slices.Clone(faults) }

// Count returns how many identities have the fault.
func (r *Report) Count(f Fault) int { return *r.count(f) }

// count returns the counter of the fault.
func (r *Report) count(f Fault) *int {
	switch f {
	case Lost:
		return &r.Lost
	case Doubled:
		return &r.Doubled
	case Altered:
		return &r.Altered
	case WrongRegion:
		return &r.WrongRegion
	case Contradicted:
		return &r.Contradicted
	default:
		return &r.Unknown
	}
}

// Clean reports whether no fault was found. A ledger without a receipt is clean and proves nothing: check
// Acknowledged.
func (r *Report) Clean() bool {
	return !slices.ContainsFunc(faults, func(f Fault) bool { return *r.count(f) != 0 })
}

func (r *Report) add(f Fault, key identity, what string) {
	n := r.count(f)
	*n++
	if *n <= findingsPerFault {
		r.Findings = append(r.Findings, Finding{Fault: f, Identity: key.String(), What: what})
	}
}

// finish sorts the findings.
func (r *Report) finish() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(bit(a.Fault), bit(b.Fault)), cmp.Compare(a.Identity, b.Identity))
	})
}

// String returns the report as an aligned table, with the findings below.
func (r *Report) String() string {
	var s strings.Builder
	line := func(n int, what, format string, args ...any) {
		_, _ = fmt.Fprintf(&s, "%-13s%9d  %s\n", what, n, fmt.Sprintf(format, args...)) // a Builder never fails
	}
	line(r.Sent, "sent", "in %d requests", r.Requests)
	line(r.Acknowledged, "acknowledged", "%d through another region than the home; %d replays", r.Crossed, r.Replayed)
	line(r.Refused, "refused", "for good: the device puts them into quarantine")
	line(r.Unresolved, "unresolved", "the device keeps them; %d are stored", r.Unreceipted)
	line(r.Rows, "rows", "and %d from before or after this run", r.Ignored)
	line(r.Lost, "lost", "acknowledged without a row")
	line(r.Doubled, "doubled", "more than one row, or receipts of more than one commit")
	line(r.Altered, "altered", "claim, receipt and row do not agree")
	line(r.WrongRegion, "wrong region", "a row outside its company's home")
	line(r.Contradicted, "contradicted", "refused for good, and stored")
	line(r.Unknown, "unknown", "a row of this run without a request")
	if r.Torn {
		s.WriteString("The ledger's last line is cut off. Its request was not sent, or its outcome was not used.\n")
	}
	for _, f := range r.Findings {
		_, _ = fmt.Fprintf(&s, "  %s  %s  %s\n", f.Fault, f.Identity, f.What)
	}
	return s.String()
}
