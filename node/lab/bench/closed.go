package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// closedJob is a closed loop: patient callers on connections that stay open. Each of them sends its next request after
// the answer to the last. It finds how much a server can carry. It says nothing about waiting times under overload,
// because the callers slow down with the server.
type closedJob struct {
	Targets     []string          `json:"targets"` // base URLs, which the connections share
	Companies   []cluster.Company `json:"companies"`
	Connections int               `json:"connections"`
	Batch       int               `json:"batch"` // punches in one request; 1 is a single punch
	// The job ends after Duration, or once Count punches are acknowledged if Count is not 0.
	Duration time.Duration `json:"duration"`
	Count    int           `json:"count"`
}

// closedResult counts punches.
type closedResult struct {
	Acknowledged int64         `json:"acknowledged"`
	Refused      int64         `json:"refused"`
	Took         time.Duration `json:"took"`
	P50          time.Duration `json:"p50"` // of requests
	P99          time.Duration `json:"p99"`
	LastRefusal  string        `json:"last_refusal,omitempty"`
}

// Rate is the acknowledged punches per second.
func (r *closedResult) Rate() float64 { return float64(r.Acknowledged) / r.Took.Seconds() }

const (
	// answerTimeout is more than a node's own limit for a punch.
	answerTimeout = 40 * time.Second
	// mostBroken connections in a row mean that the server is gone. Their pauses take 5 s.
	mostBroken = 250
	// refusalPause keeps a refused caller from taking the core of the generator.
	refusalPause = 20 * time.Millisecond
)

// runClosed runs the job in this process.
func runClosed(ctx context.Context, job *closedJob) (closedResult, error) {
	if len(job.Targets) == 0 || len(job.Companies) == 0 || job.Connections < 1 {
		return closedResult{}, fmt.Errorf("closed loop: %d targets, %d companies, %d connections", len(job.Targets), len(job.Companies), job.Connections)
	}
	l := &closedLoop{job: job, latency: hdrhistogram.New(1, int64(2*answerTimeout/time.Microsecond), 3)}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, job.Duration)
	defer cancel()
	var callers sync.WaitGroup
	for i := range job.Connections {
		callers.Go(func() {
			if err := l.call(ctx, i); err != nil {
				l.fail(err)
				cancel()
			}
		})
	}
	callers.Wait()
	l.result.Took = time.Since(began)
	l.result.Acknowledged = l.acknowledged.Load()
	l.result.P50 = time.Duration(l.latency.ValueAtQuantile(50)) * time.Microsecond
	l.result.P99 = time.Duration(l.latency.ValueAtQuantile(99)) * time.Microsecond
	if job.Count > 0 && l.err == nil && l.result.Acknowledged < int64(job.Count) {
		l.err = fmt.Errorf("closed loop: %d of %d punches were acknowledged within %s", l.result.Acknowledged, job.Count, job.Duration)
	}
	return l.result, l.err
}

// closedLoop is one run of a job.
type closedLoop struct {
	job          *closedJob
	acknowledged atomic.Int64

	mu      sync.Mutex // guards the fields below
	begun   int        // punches under way or acknowledged
	latency *hdrhistogram.Histogram
	result  closedResult
	err     error
}

func (l *closedLoop) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = errors.Join(l.err, err)
}

// call is one caller on one connection.
func (l *closedLoop) call(ctx context.Context, number int) error {
	target, err := url.Parse(l.job.Targets[number%len(l.job.Targets)])
	if err != nil {
		return err
	}
	var c caller
	defer c.close()
	c.writer = newRequestWriter(target.Host, l.job, number)
	for broken := 0; ctx.Err() == nil && l.mayBegin(); {
		sent := time.Now()
		acknowledged, refusal, err := c.exchange(ctx, target.Host)
		if err == nil {
			broken = 0
		} else if broken++; broken == mostBroken {
			return fmt.Errorf("%s: %w", target, err)
		} else { // a node under overload ends connections
			c.close()
			refusal = err.Error()
		}
		l.acknowledged.Add(int64(acknowledged))
		l.mu.Lock()
		_ = l.latency.RecordValue(max(1, time.Since(sent).Microseconds())) // the connection's deadline bounds it
		l.result.Refused += int64(l.job.Batch - acknowledged)
		l.begun -= l.job.Batch - acknowledged // others take their place
		if refusal != "" {
			l.result.LastRefusal = refusal
		}
		l.mu.Unlock()
		if acknowledged == 0 {
			cluster.Pause(ctx, refusalPause)
		}
	}
	return nil
}

func (l *closedLoop) mayBegin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.job.Count > 0 && l.begun >= l.job.Count {
		return false
	}
	l.begun += l.job.Batch
	return true
}

// caller is a connection. Writing a prepared request and reading the answer costs a third of what net/http's client
// takes, and the generator has one core.
type caller struct {
	conn   net.Conn
	reader *bufio.Reader
	writer *requestWriter
}

func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.Close() // all answers are read
		c.conn = nil
	}
}

// exchange sends one request and returns how many of its punches were acknowledged.
func (c *caller) exchange(ctx context.Context, addr string) (acknowledged int, refusal string, err error) {
	if c.conn == nil {
		if c.conn, err = (&net.Dialer{Timeout: answerTimeout}).DialContext(context.WithoutCancel(ctx), "tcp", addr); err != nil {
			return 0, "", err
		}
		c.reader = bufio.NewReaderSize(c.conn, 4<<10)
	}
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, "", err
	}
	if _, err := c.conn.Write(c.writer.next()); err != nil {
		return 0, "", err
	}
	answer, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return 0, "", err
	}
	body, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return 0, "", err
	}
	if answer.Close {
		c.close()
	}
	switch {
	case answer.StatusCode == http.StatusCreated:
		return 1, "", nil
	case answer.StatusCode == http.StatusOK && c.writer.batch > 1:
		acknowledged = bytes.Count(body, []byte(`"status":201`))
		if acknowledged < c.writer.batch {
			refusal = string(body[:min(len(body), 300)])
		}
		return acknowledged, refusal, nil
	default:
		return 0, answer.Status + ": " + string(body[:min(len(body), 300)]), nil
	}
}

// requestWriter makes requests of one caller. All of them have one length, so only the ids and the employees change.
type requestWriter struct {
	request  []byte
	ids      []int // where the ids begin
	employee int
	batch    int
}

const (
	noID       = "00000000-0000-7000-8000-000000000000"
	noEmployee = "e000000"
	// employees of each company. A node refuses an employee who punches every second, so no employee comes twice soon.
	employees = 1_000_000
)

func newRequestWriter(host string, job *closedJob, number int) *requestWriter {
	w := &requestWriter{employee: rand.IntN(employees), batch: max(1, job.Batch)}
	company := job.Companies[number/len(job.Targets)%len(job.Companies)]
	item := `{"id":"` + noID + `","employee":"` + noEmployee + `","kind":"in"}`
	path, body := "/v1/punches", item
	if w.batch > 1 {
		path, body = "/v1/punches/batch", `{"punches":[`+string(bytes.Repeat([]byte(item+","), w.batch-1))+item+`]}`
	}
	w.request = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, host, company.Token, len(body), body)
	for from := 0; ; {
		i := bytes.Index(w.request[from:], []byte(noID))
		if i < 0 {
			return w
		}
		w.ids = append(w.ids, from+i)
		from += i + len(noID)
	}
}

// next returns a request with new ids. The caller must have sent it before the next call.
func (w *requestWriter) next() []byte {
	const employeeAfter = len(noID) + len(`","employee":"e`)
	for _, at := range w.ids {
		copy(w.request[at:], punch.NewID().String())
		w.employee++
		digits := strconv.AppendInt(nil, int64(employees+w.employee%employees), 10)
		copy(w.request[at+employeeAfter:], digits[1:])
	}
	return w.request
}
