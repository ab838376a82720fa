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

// Find returns the receipt of a punch, or an *Error with punch.NotFound when
// it was not recorded.
func (c *Client) Find(ctx context.Context, employee string, id punch.ID) (Receipt, error) {
	var receipt Receipt
	path := "/v1/employees/" + url.PathEscape(employee) + "/punches/" + id.String()
	attempts, failure := c.settle(ctx, c.cfg.AttemptTimeout, func(ctx context.Context, endpoint string) *Error {
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

// maxPages ends a listing that an endpoint would make endless. The API bounds a
// range to about two months and a page to hundreds of punches.
const maxPages = 100

// wirePage is a page of an employee's punches.
type wirePage struct {
	From    time.Time     `json:"from"`
	To      time.Time     `json:"to"`
	Punches []wireReceipt `json:"punches"`
	Next    string        `json:"next"` // cursor of the next page, empty on the last
}

// List returns an employee's punches with from <= punched_at < to, in order.
// The service chooses a bound that is zero. Errors are *Error.
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
	_, failure := c.settle(ctx, c.cfg.AttemptTimeout, func(ctx context.Context, endpoint string) *Error {
		answer, err := c.send(ctx, endpoint, http.MethodGet, path, nil, maxBatchBytes)
		if err != nil {
			return err
		}
		page, receipts, err = answer.page()
		return err
	})
	if failure != nil { // not returned as it is: a nil *Error is no nil error
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
		return page, nil, noAnswer(a.status, errors.New("the answer has no punches, not even none"))
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
