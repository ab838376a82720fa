package certs

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Name is who a node is. A certificate says it as its only URI, a SPIFFE ID:
// spiffe://<deployment>/node/<region>. Names of hosts do not matter between
// nodes: these come and go, and are called by address.
type Name struct{ Deployment, Region string }

// String returns the URI.
func (n Name) String() string { return "spiffe://" + n.Deployment + "/node/" + n.Region }

var (
	// What SPIFFE lets a trust domain and a segment of a path consist of, and
	// what Go takes for the host of a URL in a certificate.
	deploymentPattern = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)
	regionPattern     = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

// maxName is memberlist's bound of a label, which the deployment's name is too.
const maxName = 255

// Validate checks that the name can stand in a certificate.
func (n Name) Validate() error {
	if !deploymentPattern.MatchString(n.Deployment) || len(n.Deployment) > maxName {
		return fmt.Errorf("deployment must be 1 to %d of lower-case letters, digits, '_', '-' and single dots between them, is %q", maxName, n.Deployment)
	}
	if !regionPattern.MatchString(n.Region) || len(n.Region) > maxName {
		return fmt.Errorf("region must be 1 to %d of letters, digits, '_' and '-', is %q", maxName, n.Region)
	}
	return nil
}

func (n Name) uri() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: n.Deployment, Path: "/node/" + n.Region}
}

// nameOf reads the name of a node. Whatever else an authority signs, such as an
// operator's or a database's certificate, has another name or none.
func nameOf(c *x509.Certificate) (Name, error) {
	if len(c.URIs) != 1 {
		return Name{}, refuse("not_a_node", "the certificate of %q has %d URI names, a node's has one", c.Subject, len(c.URIs))
	}
	said := c.URIs[0].String()
	deployment, region, ok := strings.Cut(strings.TrimPrefix(said, "spiffe://"), "/node/")
	n := Name{Deployment: deployment, Region: region}
	if !ok || n.Validate() != nil || n.String() != said { // the last also refuses user, port, query and fragment
		return Name{}, refuse("not_a_node", "the certificate is for %q, and not for a node", said)
	}
	return n, nil
}
