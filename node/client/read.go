package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/punch"
)

// Find returns the receipt of a punch, or an *Error with punch.NotFound if the service has not recorded it.
func (c *Client) Find(ctx context.Context, employee string, id punch.ID) (Receipt, error) {
	var receipt Receipt
	path := "/v1/employees/" + url.PathEscape(employee) + "/punches/" + id.String()
	attempts, failure := c.do(ctx, c.cfg.AttemptTimeout, func(ctx context.Context, endpoint string) *Error {
		answer, err := c.send(ctx, endpoint, http.MethodGet, path, nil, maxReceiptBytes)
		if err != nil {
			return err
		}
		receipt, err = answer.receiptFor(employee, id)
		return err
	})
	if failure != nil {
		failure.ID = id
		return Receipt{}, failure
	}
	receipt.Attempts = attempts
	return receipt, nil
}

// maxPages ends a listing that a broken endpoint would make endless. The API bounds a range to about two months, and a
// page has hundreds of punches.
const maxPages = 100

// wirePage is a page of the punches of an employee.
type wirePage struct {
	From    time.Time     `json:"from"`
	To      time.Time     `json:"to"`
	Punches []wireReceipt `json:"punches"`
	Next    string        `json:"next"` // cursor of the next page, empty on the last
}

// List returns the punches of an employee with from <= punched_at < to, in order. The service chooses a bound that is
// zero. Errors are *Error.
func (c *Client) List(ctx context.Context, employee string, from, to time.Time) ([]punch.Receipt, error) {
	query := make(url.Values)
	setTime(query, "from", from)
	setTime(query, "to", to)
	path := "/v1/employees/" + url.PathEscape(employee) + "/punches"
	var all []punch.Receipt
	for range maxPages {
		page, receipts, err := c.page(ctx, path+"?"+query.Encode())
		if err != nil {
			return nil, err
		}
		all = append(all, receipts...)
		if page.Next == "" {
			return all, nil
		}
		setTime(query, "from", page.From)
		setTime(query, "to", page.To)
		query.Set("cursor", page.Next)
	}
	return nil, noAnswer(http.StatusOK, fmt.Errorf("more than %d pages", maxPages))
}

func setTime(query url.Values, name string, t time.Time) {
	if !t.IsZero() {
		query.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}

func (c *Client) page(ctx context.Context, path string) (wirePage, []punch.Receipt, error) {
	var page wirePage
	var receipts []punch.Receipt
	_, failure := c.do(ctx, c.cfg.AttemptTimeout, func(ctx context.Context, endpoint string) *Error {
		answer, err := c.send(ctx, endpoint, http.MethodGet, path, nil, maxBatchBytes)
		if err != nil {
			return err
		}
		page, receipts, err = answer.page()
		return err
	})
	if failure != nil { // a nil *Error in an error is not nil
		return page, nil, failure
	}
	return page, receipts, nil
}

func (a answer) page() (wirePage, []punch.Receipt, *Error) {
	var page wirePage
	if err := json.Unmarshal(a.body, &page); err != nil {
		return page, nil, noAnswer(a.status, fmt.Errorf("the answer is not a page of punches: %w", err))
	}
	if page.Punches == nil {
		return page, nil, noAnswer(a.status, errors.New("the answer has no list of punches"))
	}
	receipts := make([]punch.Receipt, len(page.Punches))
	for i := range page.Punches {
		var err error
		if receipts[i], err = page.Punches[i].receipt(); err != nil {
			return page, nil, noAnswer(a.status, err)
		}
	}
	return page, receipts, nil
}
