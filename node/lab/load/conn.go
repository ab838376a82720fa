package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// target is one endpoint with its idle connections.
type target struct {
	fleet *fleet
	addr  string
	tls   *tls.Config // nil without TLS
	heads [][]byte    // of a request, by company, up to the value of Content-Length

	mu   sync.Mutex // guards idle
	idle []*conn    // the newest last; it is used first, so that connections beyond the need stay idle
}

func newTarget(f *fleet, endpoint string) (*target, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not an http or https URL", endpoint)
	}
	t := &target{fleet: f, addr: u.Host}
	if u.Port() == "" {
		t.addr = net.JoinHostPort(u.Hostname(), u.Scheme)
	}
	if u.Scheme == "https" {
		t.tls = &tls.Config{
			RootCAs: f.cfg.Roots, ServerName: u.Hostname(), NextProtos: []string{"http/1.1"},
			ClientSessionCache: tls.NewLRUClientSessionCache(0), // as devices resume their sessions
		}
	}
	for i := range f.cfg.Companies {
		t.heads = append(t.heads, fmt.Appendf(nil, "POST %s/v1/punches HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/json\r\nContent-Length: ", u.Path, u.Host, f.cfg.Companies[i].Token))
	}
	return t, nil
}

// take returns an idle connection, or nil.
func (t *target) take() *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) == 0 {
		return nil
	}
	c := t.idle[len(t.idle)-1]
	t.idle = t.idle[:len(t.idle)-1]
	c.place = none
	return c
}

func (t *target) put(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.place = len(t.idle)
	t.idle = append(t.idle, c)
}

// remove forgets an idle connection that the node closed.
func (t *target) remove(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.place == none {
		return
	}
	last := t.idle[len(t.idle)-1]
	t.idle[c.place], last.place = last, c.place
	t.idle, c.place = t.idle[:len(t.idle)-1], none
}

// dial opens a connection for an attempt and then reads all answers of the connection.
func (t *target) dial(a *attempt) {
	a.begun(t.fleet)
	ctx, cancel := context.WithDeadline(t.fleet.dials, a.due.Add(t.fleet.patience))
	c, err := t.connect(ctx)
	cancel()
	if err != nil {
		if a.over.CompareAndSwap(false, true) {
			t.fleet.finish(a, &answer{err: err, local: isLocal(err), gaveUp: errors.Is(err, context.DeadlineExceeded)})
		}
		return
	}
	if !t.fleet.add(c) {
		c.close()
	}
	defer t.fleet.drop(c)
	c.start(a)
	c.serve()
}

// connect needs no timer of its own: the patience of the caller bounds it.
func (t *target) connect(ctx context.Context) (*conn, error) {
	dialer := newDialer(t.addr)
	raw, err := dialer.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	c := &conn{target: t, raw: raw, stream: raw, place: none}
	if t.tls != nil {
		secure := tls.Client(raw, t.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = raw.Close() // the handshake's error tells more
			return nil, err
		}
		c.stream = secure
	}
	c.reader = bufio.NewReaderSize(c.stream, 2048) // a receipt with its header takes about 1,000 bytes
	return c, nil
}

// isLocal reports whether this machine, and not a node, is the reason.
func isLocal(err error) bool {
	for _, own := range []error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

func (f *fleet) add(c *conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.conns[c] = struct{}{}
	}
	return !f.closed
}

func (f *fleet) drop(c *conn) {
	c.close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}

// closeAll closes all connections, and lets no further one be opened.
func (f *fleet) closeAll() {
	f.noDials()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for c := range f.conns {
		c.close()
	}
}

func (f *fleet) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// conn is a connection. The goroutine of run writes requests while the connection is idle, and the goroutine of the
// connection reads answers.
type conn struct {
	target *target
	raw    net.Conn
	stream io.ReadWriter // raw, or TLS on it
	reader *bufio.Reader
	out    []byte // the request, used by start
	body   []byte // of the answer, used by serve
	place  int    // in target.idle, or none; guarded by target.mu
	used   bool   // an answer has come; used by serve

	mu      sync.Mutex // guards the fields below
	current *attempt   // nil while idle
	dead    bool
}

// close does not say goodbye in TLS, like a phone that loses its network or a program that is ended.
func (c *conn) close() { _ = c.raw.Close() }

// begun notes when the generator began to send an attempt.
func (a *attempt) begun(f *fleet) { a.sent.CompareAndSwap(0, max(1, int64(time.Since(f.tally.begin)))) }

// start sends an attempt. It returns false if the node has closed the connection. If the write fails, serve notices the
// end of the connection and settles the attempt.
func (c *conn) start(a *attempt) bool {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return false
	}
	c.current = a
	c.mu.Unlock()
	a.begun(c.target.fleet)
	a.conn.Store(c)
	if a.over.Load() { // the caller gave up while the connection was made
		c.close()
		return true
	}
	head := c.target.heads[a.call.arrival.company]
	c.out = append(c.out[:0], head...)
	c.out = strconv.AppendInt(c.out, int64(len(a.call.body)), 10)
	c.out = append(append(c.out, "\r\n\r\n"...), a.call.body...)
	if _, err := c.stream.Write(c.out); err != nil {
		c.close()
	}
	return true
}

// serve reads answers until the connection ends.
func (c *conn) serve() {
	for {
		_, err := c.reader.Peek(1)
		begun := err == nil
		var o answer
		if begun {
			o, err = c.read()
		}
		keep := err == nil && !o.last
		c.mu.Lock()
		a := c.current
		c.current, c.dead = nil, !keep
		c.mu.Unlock()
		switch {
		case a == nil:
			c.target.remove(c) // the node closed an idle connection
			c.close()
			return
		case keep:
			c.target.put(c)
		default:
			c.close()
		}
		c.answered(a, &o, err, begun)
		if !keep {
			return
		}
		c.used = true
	}
}

// answered settles an attempt unless its caller has given up. A node may close an idle connection in the moment in which
// a request is sent on it. Every HTTP client then sends the request again on a new connection.
func (c *conn) answered(a *attempt, o *answer, err error, begun bool) {
	f := c.target.fleet
	if err != nil && !begun && c.used && !a.resent && !a.over.Load() && !f.isClosed() {
		a.resent = true
		a.call.requests.Add(1)
		a.conn.Store(nil)
		f.running.Go(func() { c.target.dial(a) })
		return
	}
	if a.over.CompareAndSwap(false, true) {
		o.err = err
		f.finish(a, o)
	}
}

// answer is the answer to an attempt.
type answer struct {
	status     int
	retryAfter time.Duration
	body       []byte // valid until the next answer of the connection
	last       bool   // the connection ends with it
	err        error  // why there is none
	local      bool   // err is about this machine
	gaveUp     bool
}

// names reports whether the body contains the id of a punch.
func (o *answer) names(id punch.ID) bool { return bytes.Contains(o.body, []byte(id.String())) }

// problem returns code and finality of a problem document. It searches the text, because most refusals are alike and
// decoding them would cost the generator more than sending.
func (o *answer) problem() (code punch.Code, final bool) {
	if _, rest, found := bytes.Cut(o.body, []byte(`"code":"`)); found {
		text, _, _ := bytes.Cut(rest, []byte(`"`))
		code = punch.Code(text)
	}
	if code == "" {
		return punch.Code("status " + strconv.Itoa(o.status)), false // not Punchclock's answer
	}
	return code, code.Final()
}

// maxBody is far more than any answer to a punch.
const maxBody = 64 << 10

var errTooLong = errors.New("the answer is too long")

// read reads an answer. A hand-made reader takes a tenth of the time of http.ReadResponse.
func (c *conn) read() (o answer, err error) {
	for o.status < 200 { // an interim answer is followed by another
		line, err := c.line()
		if err != nil {
			return o, err
		}
		if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
			return o, fmt.Errorf("the answer begins with %q", line)
		}
		if o.status, err = strconv.Atoi(string(line[9:12])); err != nil || o.status < 100 {
			return o, fmt.Errorf("the answer begins with %q", line)
		}
		o.last = line[7] == '0' // HTTP/1.0
		length, chunked, err := c.header(&o)
		if err != nil {
			return o, err
		}
		if o.status < 200 || o.status == 204 || o.status == 304 {
			continue
		}
		if err := c.content(&o, length, chunked); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (c *conn) line() ([]byte, error) {
	line, err := c.reader.ReadSlice('\n')
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return bytes.TrimRight(line, "\r\n"), err
}

func (c *conn) header(o *answer) (length int, chunked bool, err error) {
	length = none
	for {
		line, err := c.line()
		if err != nil || len(line) == 0 {
			return length, chunked, err
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 || length > maxBody {
				return 0, false, errTooLong
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		case bytes.EqualFold(name, []byte("Connection")):
			o.last = o.last || bytes.EqualFold(value, []byte("close"))
		case bytes.EqualFold(name, []byte("Retry-After")):
			if seconds, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				o.retryAfter = time.Duration(seconds) * time.Second
			}
		}
	}
}

func (c *conn) content(o *answer, length int, chunked bool) (err error) {
	switch {
	case chunked || length == none:
		o.last = true // rare, so the connection need not be used again
		var r io.Reader = c.reader
		if chunked {
			r = httputil.NewChunkedReader(r)
		}
		o.body, err = io.ReadAll(io.LimitReader(r, maxBody))
	default:
		if cap(c.body) < length {
			c.body = make([]byte, length)
		}
		o.body = c.body[:length]
		_, err = io.ReadFull(c.reader, o.body)
	}
	return err
}
