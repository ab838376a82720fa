package client

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/go-json-experiment/json"
)

// The log of receipts has two files at most. When the newer one is full, it replaces the older one. 8 MiB hold about
// 20,000 receipts.
const (
	receiptsFile    = "receipts.jsonl"
	receiptsOldFile = "receipts.1.jsonl"
	maxReceiptsFile = 8 << 20
)

// logReceipts runs under the lock, before the punches are removed. A crash in between logs a receipt twice.
func (o *Outbox) logReceipts(receipts []Receipt) error {
	var lines []byte
	for i := range receipts {
		line, err := receipts[i].JSON()
		if err != nil {
			return fmt.Errorf("outbox: receipt of %s: %w", receipts[i].ID, err)
		}
		lines = append(append(lines, line...), '\n')
	}
	size, err := o.disk.size(receiptsFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("outbox: %w", err)
	}
	if err == nil && size+int64(len(lines)) > maxReceiptsFile {
		if err := o.disk.rename(receiptsFile, receiptsOldFile); err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
	}
	if err := o.disk.append(receiptsFile, lines); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return o.syncDir(".")
}

// JSON encodes the receipt as the API does.
func (r *Receipt) JSON() ([]byte, error) {
	marks := []string{}
	if r.Late {
		marks = append(marks, "late")
	}
	if r.NeedsReview {
		marks = append(marks, "review")
	}
	return json.Marshal(wireReceipt{
		ID: r.ID.String(), Company: r.Company, Employee: r.Employee, Kind: string(r.Kind),
		PunchedAt: r.PunchedAt, ReceivedAt: r.ReceivedAt, RecordedAt: r.RecordedAt,
		Zone: r.Zone, UTCOffset: offset(r.UTCOffset), HomeRegion: r.HomeRegion, EntryRegion: r.EntryRegion,
		Marks: marks, TraceID: r.TraceID, Replayed: r.Replayed,
	})
}

// offset writes seconds east of UTC as "+02:00".
func offset(seconds int32) string {
	return time.Time{}.In(time.FixedZone("", int(seconds))).Format("-07:00")
}
