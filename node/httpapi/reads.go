package httpapi

import (
	_ "embed"
	"errors"
	"net/http"
	"time"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
)

// list answers GET /v1/employees/{employee}/punches.
func (a *API) list(c *call) (reply, error) {
	employee, err := authorizeRead(c)
	if err != nil {
		return reply{}, err
	}
	q, err := parseQuery(c.r.URL.RawQuery, c.at)
	if err != nil {
		return reply{}, err
	}
	q.Company, q.Employee = c.caller.Company, employee
	receipts, err := a.deps.Reader.List(c.ctx, q)
	if err != nil {
		return reply{}, readError(err)
	}
	c.buf.Write(appendPage(c.buf.AvailableBuffer(), q, receipts))
	answer := reply{status: http.StatusOK}
	if len(receipts) > 0 {
		answer.home = receipts[0].HomeRegion
	}
	return answer, nil
}

// appendPage writes the page with the bounds of its range. A caller that gave no bounds can then ask for the next page of
// the same range.
func appendPage(b []byte, q punch.Query, receipts []punch.Receipt) []byte {
	b = appendTime(append(b, `{"from":`...), q.From)
	b = appendTime(append(b, `,"to":`...), q.To)
	b = append(b, `,"punches":[`...)
	for i := range receipts[:min(len(receipts), pageSize)] {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendReceipt(b, &receipts[i])
	}
	b = append(b, ']')
	if len(receipts) > pageSize {
		last := &receipts[pageSize-1]
		b = appendText(append(b, `,"next":`...), encodeCursor(punch.Cursor{PunchedAt: last.PunchedAt, ID: last.ID}))
	}
	return append(b, '}')
}

// find answers GET /v1/employees/{employee}/punches/{id}.
func (a *API) find(c *call) (reply, error) {
	employee, err := authorizeRead(c)
	if err != nil {
		return reply{}, err
	}
	id, err := punch.ParseID(c.r.PathValue("id"))
	if err != nil {
		return reply{}, punch.InvalidField("id", "%s", punch.ErrNotUUIDv7)
	}
	receipt, err := a.deps.Reader.Find(c.ctx, punch.Key{Company: c.caller.Company, Employee: employee, ID: id})
	if err != nil {
		return reply{}, readError(err)
	}
	c.buf.Write(appendReceipt(c.buf.AvailableBuffer(), &receipt))
	return reply{status: http.StatusOK, home: receipt.HomeRegion}, nil
}

// authorizeRead returns the employee of the path if the caller may read that employee's punches.
func authorizeRead(c *call) (string, error) {
	employee := c.r.PathValue("employee")
	if !punch.ValidEmployee(employee) {
		return "", punch.InvalidField("employee", punch.EmployeeRule)
	}
	if !c.caller.MayRead(employee) {
		message := "this token may only read the punches of its own employee"
		if c.caller.Role == auth.Kiosk {
			message = "a kiosk's token may not read punches"
		}
		return "", &punch.Error{Code: punch.Forbidden, Field: "employee", Message: message}
	}
	return employee, nil
}

// readError gives an uncoded error a message about reads. The default message is about a punch.
func readError(err error) error {
	if _, known := errors.AsType[*punch.Error](err); known {
		return err
	}
	return punch.Retryable(punch.Unavailable, time.Second, "the punches cannot be read right now; try again", err)
}

//go:embed openapi.yaml
var openapi []byte

// serveOpenAPI answers GET /openapi.yaml.
func serveOpenAPI(c *call) (reply, error) {
	c.buf.Write(openapi)
	return reply{status: http.StatusOK, contentType: "application/yaml"}, nil
}
