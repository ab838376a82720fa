package certs

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Dev describes the certificates of a development cluster.
type Dev struct {
	Deployment string
	Regions    []string
	// Hosts and DatabaseHosts are the host names and addresses of nodes and database.
	Hosts, DatabaseHosts []string
	DatabaseUsers        []string
	Life                 time.Duration
}

// Dir is a folder with the certificates of a development cluster:
//
//	ca.crt, ca.key                     the CA
//	nodes/<region>.crt, .key           for the nodes of a region
//	database/ca.crt                    the same CA
//	database/node.crt, .key            of the CockroachDB servers
//	database/server.crt, .key          of the PostgreSQL server
//	database/client.<user>.crt, .key   of a database user
//	database-<region>/                 ca.crt, node.crt and .key of a region that was added later
type Dir string

// CAFile returns the file of the CA's certificate.
func (d Dir) CAFile() string { return filepath.Join(string(d), "ca.crt") }

// Node returns the files of the nodes of a region.
func (d Dir) Node(region string) (certificate, key string) {
	return pairAt(string(d), "nodes", region)
}

// Database returns the folder for CockroachDB's --certs-dir.
func (d Dir) Database() string { return filepath.Join(string(d), "database") }

// DatabaseOf returns the folder for CockroachDB's --certs-dir in a region that MakeRegion added.
func (d Dir) DatabaseOf(region string) string { return d.Database() + "-" + region }

// DatabaseServer returns the files of the PostgreSQL server.
func (d Dir) DatabaseServer() (certificate, key string) { return pairAt(d.Database(), "server") }

// Secure adds the user's certificate to a connection URL, and the CA that verifies the server.
func (d Dir) Secure(u *url.URL, user string) {
	certificate, key := pairAt(d.Database(), "client."+user)
	u.User = url.User(user)
	u.RawQuery = url.Values{
		"sslmode": {"verify-full"}, "sslrootcert": {filepath.Join(d.Database(), "ca.crt")},
		"sslcert": {certificate}, "sslkey": {key},
	}.Encode()
}

func pairAt(parts ...string) (certificate, key string) {
	path := filepath.Join(parts...)
	return path + ".crt", path + ".key"
}

// Make writes the certificates. A second run renews them with the same CA, whose key is never replaced.
func (d Dir) Make(dev Dev) error {
	if err := dev.validate(); err != nil {
		return err
	}
	for _, dir := range []string{string(d), filepath.Join(string(d), "nodes"), d.Database()} {
		if err := os.MkdirAll(dir, 0o755); err != nil { // only their owner can read the keys in it
			return err
		}
	}
	a, err := openCA(string(d), dev.Deployment)
	if err != nil {
		return err
	}
	for _, region := range dev.Regions {
		if err := d.makeNode(a, region, dev); err != nil {
			return err
		}
	}
	return d.makeDatabase(a, dev)
}

// MakeRegion writes the certificates of one more region for its nodes and its CockroachDB servers. dev.Regions must have
// only this region, and the CA must exist. Other certificates stay as they are.
func (d Dir) MakeRegion(dev Dev) error {
	if err := dev.validate(); err != nil {
		return err
	}
	if _, err := os.Stat(d.CAFile()); err != nil {
		return err // the other regions would refuse certificates of a new CA
	}
	a, err := openCA(string(d), dev.Deployment)
	if err != nil {
		return err
	}
	folder := d.DatabaseOf(dev.Regions[0])
	return errors.Join(os.MkdirAll(folder, 0o755), d.makeNode(a, dev.Regions[0], dev), d.makeServer(a, folder, dev))
}

func (d Dir) makeNode(a *ca, region string, dev Dev) error {
	certificate, key := d.Node(region)
	name := Name{Deployment: dev.Deployment, Region: region}
	return a.issue(certificate, key, leaf{
		// No CommonName: a database with this CA would accept a node's certificate as a user's.
		uris: []*url.URL{name.uri()}, server: true, client: true,
		hosts: append([]string{"node." + region + "." + dev.Deployment}, dev.Hosts...),
	}, dev.Life)
}

// makeServer writes the files that a CockroachDB server needs.
func (d Dir) makeServer(a *ca, folder string, dev Dev) error {
	text, err := os.ReadFile(d.CAFile())
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(folder, "ca.crt"), text, 0o644); err != nil {
		return err
	}
	certificate, key := pairAt(folder, "node") // the file name that CockroachDB expects
	return a.issue(certificate, key, leaf{name: "node", hosts: dev.DatabaseHosts, server: true, client: true}, dev.Life)
}

func (d Dir) makeDatabase(a *ca, dev Dev) error {
	if err := d.makeServer(a, d.Database(), dev); err != nil {
		return err
	}
	certificate, key := d.DatabaseServer()
	if err := a.issue(certificate, key, leaf{name: "postgres server", hosts: dev.DatabaseHosts, server: true}, dev.Life); err != nil {
		return err
	}
	for _, user := range dev.DatabaseUsers {
		certificate, key := pairAt(d.Database(), "client."+user)
		if err := a.issue(certificate, key, leaf{name: user, client: true}, dev.Life); err != nil {
			return err
		}
	}
	return nil
}

func (dev *Dev) validate() error {
	if dev.Life <= 0 {
		return fmt.Errorf("certificates for development: Life must be more than 0, is %s", dev.Life)
	}
	if len(dev.Regions) == 0 || len(dev.DatabaseHosts) == 0 {
		return errors.New("certificates for development: Regions and DatabaseHosts must not be empty")
	}
	for _, region := range dev.Regions {
		if err := (Name{Deployment: dev.Deployment, Region: region}).Validate(); err != nil {
			return err
		}
	}
	return nil
}
