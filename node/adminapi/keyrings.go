package adminapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
)

// Keyrings is every node's gossip keys, as one node knows them.
type Keyrings struct {
	Node  string    `json:"node"` // the node that answers
	Nodes []Keyring `json:"nodes"`
}

// Keyring is the gossip keys of one node.
type Keyring struct {
	Node   string `json:"node"`
	Region string `json:"region"`
	// Known is false if the node has not told its keys: it runs an older release, or joined a moment ago.
	Known bool `json:"known"`
	// Keys are fingerprints. The first key encrypts, all keys decrypt. Without keys the node's gossip is not encrypted.
	Keys []string `json:"keys"`
}

// Has reports whether the node told that it has the key.
func (k Keyring) Has(key string) bool { return k.Known && slices.Contains(k.Keys, key) }

// Sends reports whether the node told that it encrypts with the key.
func (k Keyring) Sends(key string) bool { return k.Known && len(k.Keys) > 0 && k.Keys[0] == key }

// Keyrings returns every node's gossip keys.
func (c Client) Keyrings(ctx context.Context) (k Keyrings, err error) {
	return k, c.do(ctx, http.MethodGet, "/gossip/keys", nil, &k)
}

// same reports whether two nodes have the same keys. The order of the keys that only decrypt does not matter.
func (k Keyring) same(other Keyring) bool {
	if !k.Known || !other.Known || len(k.Keys) != len(other.Keys) {
		return false
	}
	if len(k.Keys) == 0 {
		return true
	}
	return k.Keys[0] == other.Keys[0] && !slices.ContainsFunc(k.Keys, func(key string) bool { return !slices.Contains(other.Keys, key) })
}

// Differs reports whether a node's keys differ from the keys of the largest group of nodes with equal keys. Of several
// groups of that size the first counts.
func (k Keyrings) Differs(node Keyring) bool {
	most, count := Keyring{}, 0
	for _, a := range k.Nodes {
		n := 0
		for _, b := range k.Nodes {
			if a.same(b) {
				n++
			}
		}
		if n > count {
			most, count = a, n
		}
	}
	return !node.same(most)
}

// WriteTable writes the keyrings for a person.
func (k Keyrings) WriteTable(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "as seen by\t%s\n\nNODE\tREGION\tENCRYPTS WITH\tALSO DECRYPTS\tDIFFERS\n", k.Node) // Flush returns the error
	for _, n := range k.Nodes {
		sends, receives, differs := "not encrypted", "-", "no"
		switch {
		case !n.Known:
			sends = "unknown"
		case len(n.Keys) > 0:
			sends = n.Keys[0]
		}
		if len(n.Keys) > 1 {
			receives = strings.Join(n.Keys[1:], " ")
		}
		if k.Differs(n) {
			differs = "yes"
		}
		_, _ = fmt.Fprintln(w, strings.Join([]string{n.Node, n.Region, sends, receives, differs}, "\t")) // as above
	}
	return w.Flush()
}
