package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/punch"
)

const (
	// historyClients call at the same time. The check takes exponentially longer with each.
	historyClients = 6
	historyCalls   = 60
	// historyPause is the longest pause after a call. The pauses give nodes time to die and come back.
	historyPause = 120 * time.Millisecond
	// historyTimeout lets a device wait twice as a dying node's answer asks it to, and a second more each time. The check
	// takes exponentially longer with each call without an answer, and with a shorter time there are dozens.
	historyTimeout = 8 * time.Second
)

// recorder writes a history.
type recorder struct {
	began    time.Time
	employee string    // of this history alone, so that listings hold no other punches
	from, to time.Time // limits of the listings

	mu         sync.Mutex // guards the rest
	requests   []client.Request
	number     map[punch.ID]int      // index into requests
	commits    map[punch.Receipt]int // the key has no Replayed; numbered within each punch
	distinct   map[punch.ID]int      // number of commits of a punch; must stay 1
	operations []porcupine.Operation
	unknown    int
	faults     []string // final refusals of valid calls, and listed punches without a request
}

func newRecorder() *recorder {
	return &recorder{
		began: time.Now(), employee: "e-" + punch.NewID().String(), from: time.Now().Add(-time.Hour), to: time.Now().Add(time.Hour),
		number: make(map[punch.ID]int), commits: make(map[punch.Receipt]int), distinct: make(map[punch.ID]int),
	}
}

// commit returns the number of a receipt's commit.
func (r *recorder) commit(receipt punch.Receipt) int {
	receipt.Replayed = false
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.commits[receipt]; !ok {
		r.commits[receipt] = commit0 + r.distinct[receipt.ID]
		r.distinct[receipt.ID]++
	}
	return r.commits[receipt]
}

// punch returns a new request, or a request that some client made before.
func (r *recorder) punch(fresh bool) (int, client.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if fresh || len(r.requests) == 0 {
		request := client.Request{ID: punch.NewID(), Employee: r.employee, Kind: punch.Auto, Note: fmt.Sprint(len(r.requests))}
		r.number[request.ID] = len(r.requests)
		r.requests = append(r.requests, request)
		return len(r.requests) - 1, request
	}
	i := rand.IntN(len(r.requests))
	return i, r.requests[i]
}

// call makes a call and writes it down. A read without an answer shows nothing and is left out. A final refusal is a
// fault, because every call is valid.
func (r *recorder) call(who int, c *client.Client) {
	verb := []string{"record", "record", "record", "find", "list"}[rand.IntN(5)]
	number, request := r.punch(verb == "record" && rand.IntN(2) == 0)
	in := call{number, verb}
	from := time.Since(r.began)
	out, ok := r.ask(c, in, request)
	to := time.Since(r.began)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if out.unknown { // it may take effect at any later time
		to = time.Hour
		r.unknown++
	}
	r.operations = append(r.operations, op(who, int(from), int(to), in, out))
}

func (r *recorder) ask(c *client.Client, in call, request client.Request) (out answer, ok bool) {
	ctx := context.Background() // the client has its own time limit
	switch in.verb {
	case "record":
		receipt, err := c.Punch(ctx, request)
		if err != nil {
			return answer{unknown: true}, !r.refusal(in, err)
		}
		return answer{commit: r.commit(receipt.Receipt), replayed: receipt.Replayed, tried: receipt.Attempts > 1}, true
	case "find":
		receipt, err := c.Find(ctx, request.Employee, request.ID)
		if err == nil {
			return answer{commit: r.commit(receipt.Receipt)}, true
		}
		if isNotFound(err) {
			return answer{commit: nothing}, true
		}
		r.refusal(in, err)
		return answer{}, false
	default:
		receipts, err := c.List(ctx, r.employee, r.from, r.to)
		if err != nil {
			r.refusal(in, err)
			return answer{}, false
		}
		out.listed = make(map[int]int)
		for _, receipt := range receipts {
			number, known := r.numberOf(receipt.ID)
			if !known {
				r.fault("%s was listed, but no client sent it", receipt.ID)
				continue
			}
			out.listed[number] = r.commit(receipt)
		}
		return out, true
	}
}

// refusal notes a final refusal and reports whether err is one.
func (r *recorder) refusal(in call, err error) bool {
	if !client.IsFinal(err) {
		return false
	}
	r.fault("%s of punch %d: refused for good: %v", in.verb, in.punch, err)
	return true
}

func (r *recorder) fault(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

func (r *recorder) numberOf(id punch.ID) (number int, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	number, known = r.number[id]
	return number, known
}

// TestConcurrentHistory lets devices punch, retry and read for one employee through all nodes while nodes are killed.
// porcupine must find an order of the calls that explains every answer.
func TestConcurrentHistory(t *testing.T) {
	s := mustTarget(t, mustEngine(t))
	checkHistory(t, s, historyCalls, func(stop <-chan struct{}) int { return killInTurn(t, s, stop) })
}

// checkHistory lets each client make a number of calls. Meanwhile disturb disturbs the cluster until stop is closed,
// and returns how often it did.
func checkHistory(t *testing.T, s *target, calls int, disturb func(stop <-chan struct{}) int) {
	t.Helper()
	r := newRecorder()
	stop, times := make(chan struct{}), 0
	var disturbing sync.WaitGroup
	disturbing.Go(func() { times = disturb(stop) })
	var clients sync.WaitGroup
	for who := range historyClients {
		c := mustDevice(t, s, who)
		clients.Go(func() {
			for range calls {
				r.call(who, c)
				time.Sleep(rand.N(historyPause)) // the pause of a person, not a wait for an event
			}
		})
	}
	clients.Wait()
	close(stop)
	disturbing.Wait()
	result := porcupine.CheckOperationsTimeout(growingSet(len(r.requests)), r.operations, time.Minute)
	t.Logf("%d calls, %d punches, %d calls without an answer, disturbed %d times, %s", len(r.operations), len(r.requests), r.unknown, times, time.Since(r.began))
	for _, fault := range r.faults {
		t.Error(fault)
	}
	if result != porcupine.Ok {
		for _, o := range r.operations {
			t.Logf("client %d, %d to %d: %+v -> %+v", o.ClientId, o.Call, o.Return, o.Input, o.Output)
		}
		t.Fatalf("no order explains what the devices saw: %s", result)
	}
	if len(r.operations) < historyClients*calls/2 || times == 0 {
		t.Fatalf("only %d calls had an answer, and they were disturbed %d times: this shows little", len(r.operations), times)
	}
}

// TestARefusalIsNoSilence holds that a final refusal of a valid call is a fault of the history, and not a missing
// answer.
func TestARefusalIsNoSilence(t *testing.T) {
	for _, c := range []struct {
		code    punch.Code
		status  int
		verb    string
		refused bool
	}{
		{punch.Conflict, http.StatusConflict, "record", true},
		{punch.NotFound, http.StatusNotFound, "record", true},
		{punch.NotFound, http.StatusNotFound, "find", false}, // a correct answer to a find
		{punch.Forbidden, http.StatusForbidden, "find", true},
		{punch.Forbidden, http.StatusForbidden, "list", true},
		{punch.Unavailable, http.StatusServiceUnavailable, "record", false},
	} {
		t.Run(fmt.Sprintf("%s of a %s", c.code, c.verb), func(t *testing.T) {
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(c.status)
				_, _ = fmt.Fprintf(w, `{"status":%d,"code":%q}`, c.status, c.code)
			}))
			defer service.Close()
			device, err := client.New(client.Config{Endpoints: []string{service.URL}, Token: client.StaticToken("any"), TotalTimeout: 200 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer device.Close()
			r := newRecorder()
			number, request := r.punch(true)
			r.ask(device, call{number, c.verb}, request)
			if (len(r.faults) > 0) != c.refused {
				t.Errorf("faults: %q, want one: %t", r.faults, c.refused)
			}
		})
	}
}

// killInTurn kills each node in turn and starts it again.
func killInTurn(t *testing.T, s *target, stop <-chan struct{}) (kills int) {
	nodes := s.environment.Nodes()
	for i := 0; ; i++ {
		n := nodes[i%len(nodes)]
		if err := n.Kill(); err != nil {
			t.Error(err)
			return i
		}
		if err := n.Restart(context.Background()); err != nil { // Restart has its own time limit
			t.Error(err)
			return i
		}
		select {
		case <-stop:
			return i + 1
		default:
		}
	}
}

// mustDevice returns a client. Each turn begins with another endpoint.
func mustDevice(t *testing.T, s *target, turn int) *client.Client {
	t.Helper()
	var endpoints []string
	for _, region := range s.state.Entries() {
		endpoints = append(endpoints, region.Endpoints...)
	}
	turn %= len(endpoints)
	c, err := client.New(client.Config{
		Endpoints: append(endpoints[turn:len(endpoints):len(endpoints)], endpoints[:turn]...),
		Token:     client.StaticToken(s.state.Companies[0].Token), AttemptTimeout: time.Second, TotalTimeout: historyTimeout,
		// Nodes die all the time. A call that is given up for lack of budget may take effect at any later time, and the
		// check takes exponentially longer with each.
		Budget:  client.Budget{Ratio: 1, Reserve: 1000},
		Backoff: client.Backoff{CoolDown: 500 * time.Millisecond}, // short, so that clients soon ask killed nodes again
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func isNotFound(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Code == punch.NotFound
}
