package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// ClockBinary is the name of the punchclock executable whose clock a drill can set. `make drill` builds it with the tag
// lab_clock. A released executable has no such switch.
const ClockBinary = "punchclock-lab-clock"

// findClockBinary returns the executable beside this one.
func findClockBinary() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path, err := exec.LookPath(filepath.Join(filepath.Dir(self), ClockBinary))
	if err != nil {
		return "", fmt.Errorf("needs the executable %s beside this one; `make drill` builds it: %w", ClockBinary, err)
	}
	return path, nil
}

// clocks sets the clocks of nodes. Each node reads how far its clock is ahead from a file of its own.
type clocks struct{ dir string }

func (c *clocks) file(node string) string { return filepath.Join(c.dir, node) }

// env returns the setting that names a node's file.
func (c *clocks) env(n *cluster.Node) []string {
	return []string{"PUNCHCLOCK_LAB_CLOCK_FILE=" + c.file(n.Name)}
}

// set moves a node's clock ahead, or back if ahead is negative. A rename replaces the file, so that the node never
// reads half of it.
func (c *clocks) set(node string, ahead time.Duration) error {
	part := c.file(node) + ".part"
	if err := os.WriteFile(part, []byte(ahead.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(part, c.file(node))
}

// wrongBy is far more than the second at which a node takes itself out of service. It is also more than a device's clock
// may be ahead.
const wrongBy = 10 * time.Minute

// wrongClock sets the clock of one node back, right and forward while it runs. It returns when the node has noticed the
// last change. Until the node notices a clock that is behind, it calls good devices ahead of their time. Until it notices
// a clock that is ahead, it stores wrong receive times.
func wrongClock(ctx context.Context, s *target) error {
	node := s.nodes()[0]
	s.probe = newProbe(s, node)
	if err := s.clocks.set(node.Name, -wrongBy); err != nil {
		return err
	}
	if err := s.probe.until(ctx, http.StatusServiceUnavailable); err != nil {
		return err
	}
	if err := s.probe.mustStillRefuse(ctx); err != nil {
		return err
	}
	if err := s.clocks.set(node.Name, 0); err != nil {
		return err
	}
	if err := s.probe.until(ctx, http.StatusCreated); err != nil {
		return err
	}
	if err := s.clocks.set(node.Name, wrongBy); err != nil {
		return err
	}
	return s.probe.until(ctx, http.StatusServiceUnavailable)
}

// rightClock sets the clock right, and returns when the node serves punches again.
func rightClock(ctx context.Context, s *target) error {
	if s.probe == nil {
		return errors.New("the clock was never set")
	}
	refused := s.probe.mustStillRefuse(ctx)
	if err := s.clocks.set(s.nodes()[0].Name, 0); err != nil {
		return errors.Join(refused, err)
	}
	return errors.Join(refused, s.probe.until(ctx, http.StatusCreated), s.probe.resend(ctx))
}

// probe punches as a device that asks one node first, and notes how that node answers. Like any device it may go on to
// other nodes. Its punches are in the ledger, and none may be refused for good.
type probe struct {
	s       *target
	node    string // base URL
	company *cluster.Company
	punches int
	kept    []client.Request // without a receipt; a device keeps them and sends them again
}

const (
	probeEvery = 200 * time.Millisecond
	// probeTimeout ends a probe without an answer.
	probeTimeout = 3 * time.Second
	// stillRefused is how many probes in a row a node with a wrong clock must refuse.
	stillRefused = 3
)

func newProbe(s *target, node *cluster.Node) *probe {
	return &probe{s: s, node: node.PublicURL, company: companyOf(s.state.Companies, s.homes()[0])}
}

// noteStatus keeps the status of the last answer of one node to a punch. It calls refused after a 503.
type noteStatus struct {
	http.Transport
	node    string
	refused func()
	status  atomic.Int64
}

// readAnswer calls a function when the client has read an answer.
type readAnswer struct {
	io.ReadCloser
	read func()
}

func (a readAnswer) Close() error {
	defer a.read()
	return a.ReadCloser.Close()
}

// RoundTrip implements http.RoundTripper.
func (n *noteStatus) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := n.Transport.RoundTrip(r)
	if err == nil && r.Method == http.MethodPost && "http://"+r.URL.Host == n.node {
		n.status.Store(int64(res.StatusCode))
		if res.StatusCode == http.StatusServiceUnavailable {
			res.Body = readAnswer{res.Body, n.refused}
		}
	}
	return res, err
}

// ask punches once and returns the status of the node's last answer, or 0 without an answer. Each probe is a new device:
// a device that has met a wrong clock avoids that node for a while.
func (p *probe) ask(ctx context.Context) (status int, err error) {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	note := noteStatus{node: p.node, refused: giveUp} // the device would wait for Retry-After and ask the same node again
	defer note.CloseIdleConnections()
	c, err := client.New(client.Config{
		Endpoints: []string{p.node}, Token: client.StaticToken(p.company.Token), TotalTimeout: probeTimeout,
		HTTPClient: &http.Client{Transport: &note},
	})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	p.punches++
	r := client.Request{ID: punch.NewID(), Employee: fmt.Sprintf("probe-%06d", p.punches), Kind: punch.In}
	if err := p.send(ctx, c, r); client.IsFinal(err) {
		return 0, fmt.Errorf("a good punch was refused for good: %w", err)
	} else if err != nil {
		p.kept = append(p.kept, r)
	}
	return int(note.status.Load()), nil
}

func (p *probe) send(ctx context.Context, c *client.Client, r client.Request) error {
	device := recordingClient{ledger: p.s.ledger, company: p.company.ID, entry: p.s.victim, client: c}
	_, err := device.Punch(ctx, r)
	return err
}

// resend sends the kept punches again, as a device does.
func (p *probe) resend(ctx context.Context) error {
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	c, err := client.New(client.Config{
		Endpoints: []string{p.node}, Token: client.StaticToken(p.company.Token), HTTPClient: &http.Client{Transport: transport},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	for _, r := range p.kept {
		if err := p.send(ctx, c, r); err != nil {
			return fmt.Errorf("a punch that the device kept: %w", err)
		}
	}
	p.kept = nil
	return nil
}

// until returns when the node answers with the status.
func (p *probe) until(ctx context.Context, want int) error {
	for {
		status, err := p.ask(ctx)
		if err != nil {
			return err
		}
		if status == want {
			return nil
		}
		if !cluster.Pause(ctx, probeEvery) {
			return fmt.Errorf("the node answers %d, not %d: %w", status, want, context.Cause(ctx))
		}
	}
}

// mustStillRefuse fails if a node that knows that its clock is wrong answers otherwise than with 503.
func (p *probe) mustStillRefuse(ctx context.Context) error {
	for range stillRefused {
		status, err := p.ask(ctx)
		if err != nil {
			return err
		}
		if status != http.StatusServiceUnavailable {
			return fmt.Errorf("the node knows that its clock is wrong, and answered %d instead of 503", status)
		}
	}
	return nil
}
