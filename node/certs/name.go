package certs

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Name is the name of the nodes of a region. A node's certificate has it as its only URI, a SPIFFE ID:
// spiffe://<deployment>/node/<region>. Host names do not count between nodes: nodes come and go, and are called by
// address.
type Name struct{ Deployment, Region string }

// String returns the URI.
func (n Name) String() string { return "spiffe://" + n.Deployment + "/node/" + n.Region }

var (
	// SPIFFE allows these characters in a trust domain and in a path segment. Go accepts them as a URL's host in a
	// certificate.
	deploymentPattern = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)
	regionPattern     = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

// maxName is memberlist's bound of a label. The deployment's name is also the label of gossip.
const maxName = 255

// Validate checks that the name can stand in a certificate.
func (n Name) Validate() error {
	if !deploymentPattern.MatchString(n.Deployment) || len(n.Deployment) > maxName {
		return fmt.Errorf("deployment must be 1 to %d lower-case letters, digits, '_', '-' and single dots; is %q", maxName, n.Deployment)
	}
	if !regionPattern.MatchString(n.Region) || len(n.Region) > maxName {
		return fmt.Errorf("region must be 1 to %d letters, digits, '_' and '-'; is %q", maxName, n.Region)
	}
	return nil
}

func (n Name) uri() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: n.Deployment, Path: "/node/" + n.Region}
}

// nameOf reads the name of a node. Other certificates of the same CA, such as an operator's or a database's, have another
// name or no name.
func nameOf(c *x509.Certificate) (Name, error) {
	if len(c.URIs) != 1 {
		return Name{}, refuse("not_a_node", "the certificate of %q has %d URI names, a node's has one", c.Subject, len(c.URIs))
	}
	uri := c.URIs[0].String()
	deployment, region, ok := strings.Cut(strings.TrimPrefix(uri, "spiffe://"), "/node/")
	n := Name{Deployment: deployment, Region: region}
	if !ok || n.Validate() != nil || n.String() != uri { // the last also refuses user, port, query and fragment
		return Name{}, refuse("not_a_node", "the certificate is for %q, and not for a node", uri)
	}
	return n, nil
}
