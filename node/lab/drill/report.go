package drill

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is a way in which what is stored is not what was promised.
type Fault string

// The faults. Each is counted once per identity.
const (
	Lost         Fault = "lost"         // acknowledged without a row
	Doubled      Fault = "doubled"      // more than one row, or receipts of more than one commit
	Altered      Fault = "altered"      // the row is not what was claimed, or not what the receipt says
	WrongRegion  Fault = "wrong_region" // a row outside its company's home
	Contradicted Fault = "contradicted" // refused as final, and stored all the same
	Strange      Fault = "strange"      // a row of this run that nobody sent
)

// faults are all of them in the order in which they are reported.
var faults = []Fault{Lost, Doubled, Altered, WrongRegion, Contradicted, Strange}

// faultSet is a set of faults, a bit for each.
type faultSet uint8

func bit(f Fault) faultSet { return 1 << slices.Index(faults, f) }

func (s faultSet) has(f Fault) bool { return s&bit(f) != 0 }

func (s *faultSet) add(f Fault) { *s |= bit(f) }

// findingsPerFault is how many findings of a kind are kept: enough to start
// looking, few enough to read. The counts are complete.
const findingsPerFault = 10

// Finding is one fault of one identity.
type Finding struct {
	Fault    Fault  `json:"fault"`
	Identity string `json:"identity"` // company/employee/id
	What     string `json:"what"`
}

// Report is what an audit found. Sent is Acknowledged, Refused and Unresolved
// together. All but Requests, Replayed, Rows and Ignored count identities.
type Report struct {
	Requests     int `json:"requests"`     // intents in the ledger
	Sent         int `json:"sent"`         // identities among them
	Acknowledged int `json:"acknowledged"` // with a receipt
	Refused      int `json:"refused"`      // with nothing but final errors
	Unresolved   int `json:"unresolved"`   // neither: kept by the device
	// Unreceipted were committed although their answer never came: the same
	// id, sent again, would find them. That is no fault.
	Unreceipted int `json:"unreceipted"`
	Replayed    int `json:"replayed"` // receipts that named an earlier commit
	Crossed     int `json:"crossed"`  // acknowledged through another region than the home
	Rows        int `json:"rows"`     // rows of identities in the ledger
	Ignored     int `json:"ignored"`  // rows received before or after the run
	// Torn is set when the ledger's last line was cut off, which happens when
	// its writer is killed; the request of that line was not sent.
	Torn bool `json:"torn"`

	Lost         int `json:"lost"`
	Doubled      int `json:"doubled"`
	Altered      int `json:"altered"`
	WrongRegion  int `json:"wrong_region"`
	Contradicted int `json:"contradicted"`
	Strange      int `json:"strange"`

	Findings []Finding `json:"findings,omitempty"` // up to ten of each fault
}

// count is the counter of a fault.
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
		return &r.Strange
	}
}

// Clean reports whether everything that was promised is so. A ledger without
// a single receipt is clean and proves nothing: look at Acknowledged.
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

// finish puts the findings in the order of the report.
func (r *Report) finish() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(bit(a.Fault), bit(b.Fault)), cmp.Compare(a.Identity, b.Identity))
	})
}

// String is the report as an aligned table, its findings below.
func (r *Report) String() string {
	var s strings.Builder
	line := func(n int, what, format string, args ...any) {
		_, _ = fmt.Fprintf(&s, "%-13s%9d  %s\n", what, n, fmt.Sprintf(format, args...)) // a Builder takes everything
	}
	line(r.Sent, "sent", "in %d requests", r.Requests)
	line(r.Acknowledged, "acknowledged", "%d through another region than the home; %d replays", r.Crossed, r.Replayed)
	line(r.Refused, "refused", "for good: the device sets them aside")
	line(r.Unresolved, "unresolved", "the device keeps them; %d are stored", r.Unreceipted)
	line(r.Rows, "rows", "and %d from before or after this run", r.Ignored)
	line(r.Lost, "lost", "acknowledged without a row")
	line(r.Doubled, "doubled", "more than one row, or receipts of more than one commit")
	line(r.Altered, "altered", "claim, receipt and row do not say the same")
	line(r.WrongRegion, "wrong region", "a row outside its company's home")
	line(r.Contradicted, "contradicted", "refused for good, and stored")
	line(r.Strange, "strange", "a row of this run that nobody sent")
	if r.Torn {
		s.WriteString("The ledger's last line is torn; its request was not sent, or its outcome not used.\n")
	}
	for _, f := range r.Findings {
		_, _ = fmt.Fprintf(&s, "  %s  %s  %s\n", f.Fault, f.Identity, f.What)
	}
	return s.String()
}
