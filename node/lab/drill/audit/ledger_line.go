package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json"
)

// Claim is a request as plain values. Times are whole microseconds in UTC.
type Claim struct {
	Company  string    `json:"company"`
	Employee string    `json:"employee"`
	ID       string    `json:"id"`
	Kind     string    `json:"kind"`
	At       time.Time `json:"at,omitzero"` // zero if the caller sent no time
	Source   string    `json:"source,omitempty"`
	Note     string    `json:"note,omitempty"`
}

// Receipt is a receipt as plain values.
type Receipt struct {
	Company     string    `json:"company"`
	Employee    string    `json:"employee"`
	ID          string    `json:"id"`
	Kind        string    `json:"kind"`
	PunchedAt   time.Time `json:"punched_at"`
	ReceivedAt  time.Time `json:"received_at"`
	RecordedAt  time.Time `json:"recorded_at"`
	Zone        string    `json:"zone"`
	UTCOffset   int32     `json:"utc_offset"`
	HomeRegion  string    `json:"home_region"`
	EntryRegion string    `json:"entry_region"`
	Late        bool      `json:"late,omitzero"`
	Review      bool      `json:"review,omitzero"`
	TraceID     string    `json:"trace_id,omitempty"`
	Replayed    bool      `json:"replayed,omitzero"`
}

// Failure is an error that came back, or that stands for a missing answer.
type Failure struct {
	Status   int    `json:"status,omitzero"`
	Code     string `json:"code"`
	Final    bool   `json:"final,omitzero"`
	Detail   string `json:"detail,omitempty"`
	Attempts int    `json:"attempts,omitzero"`
}

// Line is one line of a ledger. Exactly one of Begin, Claim, Receipt, Failure and End is set.
type Line struct {
	Begin time.Time `json:"begin,omitzero"` // in the first line: when the run began
	// Seq numbers the requests. An outcome has the number of its intent.
	Seq uint64 `json:"seq,omitzero"`
	// Intended is when the request was due. It stands with the Claim.
	Intended time.Time `json:"intended,omitzero"`
	Entry    string    `json:"entry,omitempty"` // the region whose endpoint was tried first
	Claim    *Claim    `json:"claim,omitempty"`
	Receipt  *Receipt  `json:"receipt,omitempty"`
	Failure  *Failure  `json:"failure,omitempty"`
	End      time.Time `json:"end,omitzero"` // in the last line, if the ledger was closed
}

// maxLine bounds a line. A claim is far shorter.
const maxLine = 1 << 20

// Read passes every line to each, in the order of the file. The death of the writer may cut the last line: Read leaves
// it out and sets torn. Any other text that is no line is an error with the line's number.
func Read(r io.Reader, each func(Line) error) (torn bool, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for number := 1; ; number++ {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			return len(line) > 0, nil // a complete line ends in a newline
		}
		if err != nil {
			return false, fmt.Errorf("ledger: line %d: %w", number, err)
		}
		var e Line
		if err := json.Unmarshal(line, &e, json.RejectUnknownMembers(true)); err != nil {
			return false, fmt.Errorf("ledger: line %d: %w", number, err)
		}
		if err := e.check(number); err != nil {
			return false, fmt.Errorf("ledger: line %d: %w", number, err)
		}
		if err := each(e); err != nil {
			return false, err
		}
	}
}

// readLine returns io.EOF together with the text after the last newline.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return nil, fmt.Errorf("longer than %d bytes", maxLine)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

func (e *Line) check(line int) error {
	kinds := 0
	for _, set := range []bool{!e.Begin.IsZero(), e.Claim != nil, e.Receipt != nil, e.Failure != nil, !e.End.IsZero()} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return errors.New("a line must hold one of begin, claim, receipt, failure and end")
	case (line == 1) != !e.Begin.IsZero():
		return errors.New("only the first line must hold a begin")
	case (e.Seq == 0) == (e.Claim != nil || e.Receipt != nil || e.Failure != nil):
		return errors.New("a claim, a receipt and a failure must have a seq; begin and end must not")
	default:
		return nil
	}
}
