package node_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// keepAlive is a client with one connection that never repeats a request, such as a load balancer's. It changes the
// node only after an answer that ends the connection.
type keepAlive struct {
	token string
	conn  net.Conn
	from  *bufio.Reader
}

func (k *keepAlive) dial(url string) (err error) {
	if k.conn != nil {
		_ = k.conn.Close()
	}
	k.conn, err = net.DialTimeout("tcp", strings.TrimPrefix(url, "http://"), 5*time.Second)
	if err == nil {
		k.from = bufio.NewReader(k.conn)
	}
	return err
}

// punch sends one punch, and reports whether the answer ends the connection. An error means that the punch was sent
// and got no answer.
func (k *keepAlive) punch(employee string) (last bool, err error) {
	payload, err := json.Marshal(body{"id": punch.NewID().String(), "employee": employee, "kind": "in"})
	if err != nil {
		return false, err
	}
	request, err := http.NewRequest(http.MethodPost, "http://node/v1/punches", bytes.NewReader(payload))
	if err != nil {
		return false, err
	}
	request.Header.Set("Authorization", "Bearer "+k.token)
	request.Header.Set("Content-Type", "application/json")
	_ = k.conn.SetDeadline(time.Now().Add(30 * time.Second))
	if err := request.Write(k.conn); err != nil {
		return false, fmt.Errorf("the request: %w", err)
	}
	response, err := http.ReadResponse(k.from, request)
	if err != nil {
		return false, fmt.Errorf("the answer: %w", err)
	}
	var text bytes.Buffer
	_, err = text.ReadFrom(response.Body)
	if err == nil && response.StatusCode != http.StatusCreated {
		err = fmt.Errorf("answered %s: %s", response.Status, &text)
	}
	return response.Close, errors.Join(err, response.Body.Close())
}

// TestARollingRestartBreaksNoConnection restarts the nodes of a region one after the other. A client with one
// connection punches all the time. It moves to the other node when an answer ends its connection. Every request that
// it sends must get its answer.
func TestARollingRestartBreaksNoConnection(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		company, nodes := w.company(t, "eu-west"), w.cluster.Region("eu-west")
		client := &keepAlive{token: token(t, company)}
		if err := client.dial(nodes[0].PublicURL); err != nil {
			t.Fatal(err)
		}
		defer client.conn.Close() //nolint:errcheck // nothing is under way
		sent, moved := 0, 0
		// send punches until done is closed. The other node is ready while this node drains.
		send := func(other *cluster.Node, done <-chan struct{}) {
			for {
				select {
				case <-done:
					return
				default:
				}
				last, err := client.punch(fmt.Sprint("e", sent))
				if err != nil {
					t.Fatalf("request %d of the connection: %v", sent, err)
				}
				if sent++; last {
					if err := client.dial(other.PublicURL); err != nil {
						t.Fatal(err)
					}
					moved++
				}
			}
		}
		for i, n := range nodes {
			restarted := make(chan struct{})
			go func() {
				defer close(restarted)
				if err := n.Stop(testContext(t)); err != nil {
					t.Errorf("the node did not drain cleanly: %v", err)
				}
				if err := n.Restart(testContext(t)); err != nil {
					t.Error(err)
				}
			}()
			send(nodes[1-i], restarted)
			w.awaitMembers(t, 6)
		}
		if moved < len(nodes) {
			t.Errorf("the client had to move %d times in %d restarts", moved, len(nodes))
		}
		if rows := w.count(t, `SELECT count(*) FROM punches WHERE company_id = $1`, company); rows != sent {
			t.Errorf("%d punches were acknowledged, and there are %d rows", sent, rows)
		}
		t.Logf("%d requests, %d connections", sent, moved+1)
	})
}

// TestAnEvacuatedRegionSendsItsClientsAway looks at the answers of a node while its region is evacuated: they end the
// connection, so that clients go elsewhere, and punches are still taken.
func TestAnEvacuatedRegionSendsItsClientsAway(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		n := w.cluster.Region("ap-south")[0]
		client := &keepAlive{token: token(t, w.company(t, "eu-west"))}
		if err := client.dial(n.PublicURL); err != nil {
			t.Fatal(err)
		}
		if last, err := client.punch("before"); err != nil || last {
			t.Fatalf("in service: %v, the connection ends: %t", err, last)
		}
		mustOperate(t, w.cluster.Region("us-east")[0], "region", "evacuate", "ap-south")
		w.awaitReady(t, "ap-south", false)
		if last, err := client.punch("during"); err != nil || !last {
			t.Errorf("evacuated: %v, the connection ends: %t", err, last)
		}
		mustOperate(t, w.cluster.Region("us-east")[0], "region", "restore", "ap-south")
		w.awaitReady(t, "ap-south", true)
		if err := client.dial(n.PublicURL); err != nil {
			t.Fatal(err)
		}
		if last, err := client.punch("after"); err != nil || last {
			t.Errorf("restored: %v, the connection ends: %t", err, last)
		}
		_ = client.conn.Close()
		w.awaitMembers(t, 6)
	})
}
