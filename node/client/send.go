package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/punch"
)

// nodeHeader names the node in every answer of Punchclock.
const nodeHeader = "Punchclock-Node"

// uploadAfterHeader asks a device that holds stored punches to upload them later. The service spreads these uploads over
// the minutes after a rush.
const uploadAfterHeader = "Punchclock-Upload-After"

// maxUploadAfter bounds that wait. A wrong header must not keep punches for a day.
const maxUploadAfter = time.Hour

// answer is a whole response with status 200 or 201.
type answer struct {
	endpoint string
	status   int
	node     string
	// uploadAfter is the wait that the answer asks of stored punches.
	uploadAfter time.Duration
	body        []byte
}

// send makes one request. Every response other than 200 and 201 is an error.
func (c *Client) send(ctx context.Context, endpoint, method, path string, body []byte, limit int64) (answer, *Error) {
	token, err := c.cfg.Token(ctx)
	if err != nil {
		return answer{}, &Error{Code: punch.Unauthenticated, Detail: "no token", Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, method, endpoint+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, noAnswer(0, err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, noAnswer(0, err)
	}
	defer res.Body.Close() //nolint:errcheck // the body was read to its end, or reading failed already
	node := res.Header.Get(nodeHeader)
	content, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return answer{}, noAnswer(res.StatusCode, err)
	}
	if int64(len(content)) > limit {
		return answer{}, noAnswer(res.StatusCode, fmt.Errorf("the response exceeds %d bytes", limit))
	}
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusCreated {
		return answer{
			endpoint: endpoint, status: res.StatusCode, node: node, body: content,
			uploadAfter: uploadAfter(res.Header.Get(uploadAfterHeader)),
		}, nil
	}
	failure := refusal(res.StatusCode, res.Header, content, time.Now())
	failure.Endpoint, failure.Node = endpoint, node
	return answer{}, failure
}

// refusal reads an error answer. Without a problem document of Punchclock the answer came from a proxy, such as a load
// balancer or the login page of a hotel. It cannot be final then.
func refusal(status int, header http.Header, body []byte, now time.Time) *Error {
	e := &Error{
		Status: status, Code: punch.Unavailable, RetryAfter: retryAfter(header.Get("Retry-After"), now),
		UploadAfter: uploadAfter(header.Get(uploadAfterHeader)),
	}
	var p wireProblem
	mediaType, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	if mediaType != "application/problem+json" || json.Unmarshal(body, &p) != nil || p.Code == "" {
		e.Err = fmt.Errorf("HTTP status %d without a problem document", status)
		return e
	}
	p.apply(e)
	if e.RetryAfter == 0 { // a proxy may drop the header
		e.RetryAfter = p.retryAfter()
	}
	return e
}

// retryAfter reads the two forms of the header. It returns 0 for any other value.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// uploadAfter reads whole seconds. It returns 0 for any other value.
func uploadAfter(value string) time.Duration {
	seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxUploadAfter)
}

// receiptFor reads the receipt of a punch. Any other content counts as no answer.
func (a answer) receiptFor(employee string, id punch.ID) (Receipt, *Error) {
	var w wireReceipt
	err := json.Unmarshal(a.body, &w)
	if err != nil {
		return Receipt{}, noAnswer(a.status, fmt.Errorf("the answer is not a receipt: %w", err))
	}
	receipt, err := w.receiptFor(employee, id)
	if err != nil {
		return Receipt{}, noAnswer(a.status, err)
	}
	return Receipt{Receipt: receipt, Node: a.node, Endpoint: a.endpoint, UploadAfter: a.uploadAfter}, nil
}
